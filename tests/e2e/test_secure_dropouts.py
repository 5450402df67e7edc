"""Secure aggregation over real SuperNodes with TLS: sites that die at each step, and come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primia_flwr.secagg.payload.layout import round_to_digits
from tests.e2e.disturbed import Disturbance, Disturbed, kill, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FIVE = "federation.sites=[site-1,site-2,site-3,site-4,site-5]"
ALL = [f"site-{index}" for index in range(1, 6)]


def _step(name: str, server_round: int) -> dict[str, object]:
    return {"event": "secure_step", "step": name, "round": server_round}


def _own(run: Disturbed, site: str, server_round: int) -> dict[str, float]:
    """Return what a site wrote down at home of the last time it trained in a round."""
    file = next((run.kit(site) / "state/secagg").glob("run-*/own-measurements.jsonl"))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [x for x in lines if x["message"] == "train" and x["round"] == server_round][-1]


def _check_sums(run: Disturbed) -> None:
    """Compare what the coordinator learned with what the sites in the sum wrote down at home."""
    rounds = run.rounds()
    for row in run.sums():
        if row.kind != "train" or not row.good:
            continue
        own = [_own(run, site, row.round) for site in row.survivors]
        assert row.weight_sum == sum(round_to_digits(int(site["weight"]), 2) for site in own)
        if row.round == 1:
            continue
        loss = sum(site["incoming-loss-sum"] for site in own)
        examples = sum(site["incoming-num-examples"] for site in own)
        validated = float(rounds[row.round - 2]["val_loss"])
        assert validated * examples == pytest.approx(loss, abs=len(own) * 2**-20)


def test_where_sites_answer_any_list_the_others_go_on(tmp_path: Path) -> None:
    run = Disturbed(
        tmp_path / "run",
        FIVE,
        "data.synthetic.patients=100",
        "aggregation.allow_other_survivors=true",
        policy={"allow_other_survivors": True},
        rounds=5,
    )
    result = run.run(
        Disturbance(kill("site-5"), _step("shares", 0)),
        Disturbance(start("site-5"), _step("vectors", 0)),
        Disturbance(kill("site-4"), _step("vectors", 2), after=1.0),
        Disturbance(start("site-4"), _step("signatures", 2)),
        Disturbance(kill("site-3"), _step("shares", 4)),
    )
    assert result["rounds"] == 5
    sums = {(row.round, row.kind): row for row in run.sums() if row.good}
    assert "site-4" not in sums[2, "train"].survivors
    assert sums[2, "train"].dropped == ["site-4"]
    assert sums[2, "train"].signatures >= 3
    assert "site-3" in sums[4, "train"].survivors
    assert sums[5, "evaluate"].survivors == ["site-1", "site-2", "site-4", "site-5"]
    _check_sums(run)


def test_by_default_all_sums_of_a_run_are_over_the_same_sites(tmp_path: Path) -> None:
    """One site dies before the first sum and stays out; for two others the run waits."""
    four = ALL[:4]
    run = Disturbed(tmp_path / "run", FIVE, "data.synthetic.patients=100", rounds=4)
    result = run.run(
        Disturbance(kill("site-5"), _step("shares", 0)),
        Disturbance(kill("site-4"), _step("vectors", 2), after=1.0),
        Disturbance(
            start("site-4"), {"event": "waiting", "online": ["site-1", "site-2", "site-3"]}
        ),
        Disturbance(kill("site-3"), _step("shares", 3)),
        Disturbance(
            start("site-3"), {"event": "waiting", "online": ["site-1", "site-2", "site-4"]}
        ),
    )
    assert result["rounds"] == 4
    good = [row for row in run.sums() if row.good]
    assert {(row.round, row.kind) for row in good} == {
        (0, "statistics"), (1, "train"), (2, "train"), (3, "train"), (4, "train"), (4, "evaluate"),
    }  # fmt: skip
    assert all(row.survivors == four and row.signatures == 0 for row in good)
    given_up = [row for row in run.sums() if not row.good]
    assert {row.round for row in given_up} >= {0, 2}
    _check_sums(run)


def test_three_sites_wait_for_the_one_that_is_missing(tmp_path: Path) -> None:
    run = Disturbed(tmp_path / "run", rounds=3)
    result = run.run(
        Disturbance(kill("site-2"), _step("vectors", 2), after=1.0),
        Disturbance(start("site-2"), {"event": "waiting", "online": ["site-1", "site-3"]}),
    )
    assert result["rounds"] == 3
    aborted = [row for row in run.sums() if not row.good]
    assert [(row.round, row.survivors) for row in aborted] == [(2, ["site-1", "site-3"])]
    opened = [e["instance"] for e in run.events() if e.get("step") in ("shares", "signatures")]
    assert aborted[0].instance not in opened
    assert all(row.survivors == ALL[:3] for row in run.sums() if row.good)
    _check_sums(run)


def test_a_run_that_waited_long_enough_ends_and_can_be_resumed(tmp_path: Path) -> None:
    run = Disturbed(tmp_path / "run", rounds=3, wait_for_sites=5.0)
    result = run.run(
        Disturbance(kill("site-2"), _step("vectors", 2), after=1.0),
        Disturbance(start("site-2"), {}),  # after the run has ended
    )
    assert result["rounds"] == 3
    assert any(event["event"] == "resumed" for event in run.events())
    assert [row["round"] for row in run.rounds()] == ["1", "2", "3"]
    _check_sums(run)
