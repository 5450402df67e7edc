import math
from functools import partial

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, MetricRecord, RecordDict

from primia_flwr.config.rows import TASKS
from primia_flwr.data.fingerprint.sums import counts_of
from primia_flwr.errors import ProtocolError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.history import SiteRow
from strategies.aggregators.statistics_query import ask_statistics, read_sums

GOOD = {
    "count": [8.0],
    "total": [4.0],
    "total_squares": [3.0],
    "label_counts": [2.0, 1.0],
    "side_counts": [0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0],
    "num-val": 5,
}


def content(**changes):
    return RecordDict({"metrics": MetricRecord({**GOOD, **changes})})


def test_sums_are_read():
    site = read_sums(content(), channels=1, outputs=2, task=TASKS["classification"])
    assert site.num_val == 5
    assert site.sums.label_counts == (2.0, 1.0)
    assert site.sums.mean() == (0.5,)
    # 3/8 - (4/8)^2 = 1/8
    assert site.sums.std() == (math.sqrt(0.125),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"total": [4.0, 4.0], "total_squares": [3.0, 3.0]},
            "2 channels and 2 classes; expected 1",
        ),
        ({"label_counts": [1.0, 1.0, 1.0]}, "1 channels and 3 classes; expected 1 and 2"),
        ({"label_counts": [0.0, 0.0]}, "0 training .* expected a site with training images"),
        ({"label_counts": [1e18, 0.0]}, "expected a site with training images"),
        ({"num-val": -1}, "-1 validation images"),
        ({"num-val": math.nan}, "num-val=nan"),
        ({"total": [math.nan]}, "pixel sums"),
        ({"total": [9.0]}, "pixel sums"),
        ({"total_squares": [-1.0]}, "pixel sums"),
        ({"count": 8.0}, "pixel sums"),
    ],
)
def test_impossible_sums_are_refused(changes, reason):
    with pytest.raises(ProtocolError, match=reason):
        read_sums(content(**changes), channels=1, outputs=2, task=TASKS["classification"])


def test_counts_of_volumes_come_where_they_are_asked_for():
    read = partial(read_sums, channels=1, outputs=2, task=TASKS["classification"])
    volumes = np.zeros((1, 1, 1), np.float32)
    counts = counts_of(volumes, volumes.astype(np.uint8), (1, 1, 1), outputs=2, levels=(0.0, 1.0))
    vector = [float(n) for n in counts.vector()]
    found = read(content(volume_counts=vector), volumes=True)
    assert found.sums.volume_counts == tuple(vector)
    for asked, given, reason in (
        (False, vector, f"{len(vector)} counts of volumes; expected 0"),
        (True, vector[:-1], f"expected {len(vector)}"),
        (True, [], f"0 counts of volumes; expected {len(vector)}"),
        (True, [2.0, *vector[1:]], r"1 spacings along z of 2 volume\(s\)"),
    ):
        with pytest.raises(ProtocolError, match=reason):
            read(content(volume_counts=given), volumes=asked)


def test_missing_sums_are_refused():
    with pytest.raises(ProtocolError, match="pixel sums lack"):
        read_sums(RecordDict(), channels=1, outputs=2, task=TASKS["classification"])


def test_each_node_gets_its_sums_or_a_row_that_says_why_not(make_site, make_grid):
    def nameless(content, message):
        content["site"] = ConfigRecord({})
        return content

    sites = {
        1: make_site("munich"),
        2: make_site("paris", always=lambda content, message: Error(2, "boom")),
        3: make_site("london", always=lambda content, message: None),
        4: make_site("berlin", always=nameless),
    }
    grid = RosterGrid(make_grid(sites), ["munich", "paris", "london", "berlin"])
    found = ask_statistics(
        grid, [1, 2, 3, 4], channels=1, outputs=2, task=TASKS["classification"], timeout=0.02
    )
    assert found[1].num_val == 10
    rows = {node: row for node, row in found.items() if isinstance(row, SiteRow)}
    assert {node: row.status for node, row in rows.items()} == {
        2: "failed",
        3: "late",
        4: "rejected",
    }
    assert rows[4].reason == "site.name=None; expected the site's name"
    assert grid.select() == ["munich"]
