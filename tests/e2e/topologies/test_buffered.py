"""Buffered rounds over a real federation: TLS, keys, gates, three SuperNodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.site.log import SiteLog
from tests.e2e.disturbed import Disturbance, Disturbed, kill, start

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
BUFFERED = ("aggregation=buffered", "training.deterministic=true")
SITES = ("site-1", "site-2", "site-3")


def check(run: Disturbed, rounds: int) -> None:
    """Each round is one sum over all three, and nothing else left a site."""
    sums = [row for row in run.sums() if row.kind == "train" and row.good]
    assert [row.round for row in sums] == list(range(1, rounds + 1))
    assert {tuple(row.survivors) for row in sums} == {SITES}
    for site in SITES:
        log = SiteLog(run.kit(site) / "state/site-log.jsonl")
        left = {entry.details["message"] for entry in log.entries() if entry.event == "left"}
        assert left == {
            "query.secagg", "query.statistics", "train", "query.buffer", "evaluate"
        }  # fmt: skip
        (given,) = (run.kit(site) / "state/secagg").glob("run-*/given.json")
        bound = json.loads(given.read_text())["bound"].values()
        assert [one["survivors"] for one in bound] == [list(SITES)] * rounds
        assert len({one["told"] for one in bound}) == rounds, "each update is in one sum"
        assert not list(given.parent.glob("held.safetensors")), "erased"


WAIT: dict[str, Any] = {
    "rounds": 3, "min_sites": 3, "round_timeout": 45.0, "wait_for_sites": 200.0
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the model that an undisturbed run ends with."""
    run = Disturbed(tmp_path_factory.mktemp("run") / "run", *BUFFERED, **WAIT)
    assert run.run()["rounds"] == 3
    check(run, 3)
    return run.model_hash()


@pytest.mark.parametrize(
    "when",
    [
        pytest.param({"event": "round_started", "round": 2}, id="while it trains"),
        pytest.param({"event": "secure_step", "round": 2, "step": "vectors"}, id="in the sum"),
    ],
)
def test_a_site_that_is_killed_comes_back_to_the_same_model(
    when: dict[str, Any], tmp_path: Path, undisturbed: str
) -> None:
    run = Disturbed(tmp_path / "run", *BUFFERED, **WAIT)
    back = Disturbance(start("site-3"), when)
    assert run.run(Disturbance(kill("site-3"), when, after=0.5), back)["rounds"] == 3
    check(run, 3)
    assert run.model_hash() == undisturbed
