"""The review's results file as a store: what is asked anew, and what is taken from it."""

import json
from dataclasses import replace

import pytest
from primia_bench.review import cells as cells_of
from primia_bench.review.cells import Size, rows
from primia_bench.review.measured import Bench
from primia_bench.review.store import NO_TIME, Store
from primia_bench.review.systems import SYSTEMS

POOLED, PLAIN = SYSTEMS[0], SYSTEMS[2]
SIZE = Size(("iid",), (1,), more_sites=20, failing=0.25, stressed=False)


@pytest.fixture
def asked(monkeypatch):
    """The systems that were measured, in their order; each has an MCC of its place in it."""
    names = []

    def measure(bench, system, split, seed):
        names.append(system.name)
        if bench.until < 0:
            raise RuntimeError(NO_TIME)
        return {"mcc": float(len(names))}

    monkeypatch.setattr(cells_of, "measure", measure)
    return names


def measured(bench, file, systems):
    """Measure the rows of systems, and keep them in a file."""
    store = Store(file)

    def keep(found):
        file.write_text(json.dumps({"rows": found}))

    return rows(bench, systems, SIZE, store, jobs=1, say=lambda words: None, keep=keep)


def test_a_new_row_costs_only_itself_and_knows_the_pooled_score(asked, tmp_path):
    bench, file = Bench(tmp_path, 10, 4, 32, 240), tmp_path / "found.json"
    first = measured(bench, file, [POOLED])
    again = Bench(tmp_path, 10, 4, 32, 240)
    found = measured(again, file, [POOLED, PLAIN])
    assert asked == [POOLED.name, PLAIN.name]
    assert found[POOLED.name] == first[POOLED.name]
    assert again.pooled == {(4, "iid", 1): 1.0}
    (cell,) = found[PLAIN.name]["runs"]
    assert (cell["split"], cell["seed"], cell["mcc"]) == ("iid", 1, 2.0)
    assert {"key", "commit", "load"} <= cell.keys()


@pytest.mark.parametrize(
    "changed",
    [{"rounds": 9}, {"sites": 5}, {"size": 64}, {"patients": 241}],
    ids=lambda changed: next(iter(changed)),
)
def test_other_settings_are_measured_anew(asked, tmp_path, changed):
    bench, file = Bench(tmp_path, 10, 4, 32, 240), tmp_path / "found.json"
    measured(bench, file, [PLAIN])
    measured(bench, file, [replace(PLAIN, source="another", trusted="others")])
    assert len(asked) == 1
    measured(replace(bench, **changed), file, [PLAIN])
    measured(bench, file, [replace(PLAIN, overrides=(*PLAIN.overrides, "seed=2"))])
    assert len(asked) == 3


def test_what_had_no_time_is_tried_again(asked, tmp_path):
    bench, file = Bench(tmp_path, 10, 4, 32, 240), tmp_path / "found.json"
    (cell,) = measured(replace(bench, until=-1.0), file, [PLAIN])[PLAIN.name]["runs"]
    assert cell["not_run"] == NO_TIME
    (cell,) = measured(bench, file, [PLAIN])[PLAIN.name]["runs"]
    assert cell["mcc"] == 2.0
