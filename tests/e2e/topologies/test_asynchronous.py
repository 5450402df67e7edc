"""Asynchronous rounds over a real federation: TLS, keys, gates, three SuperNodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.site.log import SiteLog
from tests.e2e.disturbed import Disturbance, Disturbed, kill, start

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
ASYNCHRONOUS = ("aggregation=asynchronous", "aggregation.buffer=2")
IN_ROUND_TWO = {"event": "round_started", "round": 2}
SITES = ("site-1", "site-2", "site-3")


def test_a_killed_supernode_holds_nobody_up(tmp_path: Path) -> None:
    run = Disturbed(tmp_path / "run", *ASYNCHRONOUS, rounds=5, min_sites=2, round_timeout=400.0)
    assert run.run(Disturbance(kill("site-3"), IN_ROUND_TWO, after=0.5))["rounds"] == 5
    rows = run.sites()
    good = [row for row in rows if row["status"] == "ok"]
    assert all(sum(row["round"] == str(n) for row in good) == 2 for n in range(1, 6))
    last = {row["site"]: row["status"] for row in rows if row["round"] == "5"}
    assert (last["site-1"], last["site-2"]) == ("ok", "ok")
    assert last["site-3"] in ("busy", "failed")  # its message lives on until the SuperLink gives up
    assert all(float(row["seconds"]) < 200 for row in run.rounds())  # nobody waited for its timeout
    assert {row["staleness"] for row in good} <= {"0", "1", "2"}
    assert [row["best"] for row in run.rounds()] == ["0", "0", "0", "0", "1"]
    assert float(run.rounds()[-1]["val_loss"]) > 0  # both that are left have validated


def test_a_supernode_that_was_killed_comes_back(tmp_path: Path) -> None:
    run = Disturbed(tmp_path / "run", *ASYNCHRONOUS, rounds=36, min_sites=2, round_timeout=40.0)
    at_once = {"event": "round_started", "round": 2}
    back = Disturbance(start("site-3"), at_once)
    assert run.run(Disturbance(kill("site-3"), at_once, after=0.5), back)["rounds"] == 36
    status = [row["status"] for row in run.sites() if row["site"] == "site-3"]
    given_up = next(n for n, one in enumerate(status) if one in ("late", "failed"))
    assert "ok" in status[given_up:]
    good = [row for row in run.sites() if row["status"] == "ok"]
    assert all(sum(row["round"] == str(n) for row in good) == 2 for n in range(1, 37))


def test_private_updates_are_taken_when_they_are_ready(tmp_path: Path) -> None:
    private = ("privacy=dp_sgd", "privacy.expected_batch=8", "privacy.steps=2", "privacy.epsilon=5")
    words = (*ASYNCHRONOUS, *private, "model.norm=group", "data.normalisation.kind=fixed")
    run = Disturbed(tmp_path / "run", *words, rounds=3, min_sites=2, round_timeout=300.0)
    assert run.run()["rounds"] == 3
    rounds = set()
    for site in SITES:
        with read_ledger(run.kit(site) / "state/privacy") as ledger:
            charged = [charge.instance for charge in ledger.charges()]
            assert ledger.spent(ledger.charges()[-1].version) <= 5
        assert len(charged) == len(set(charged))
        rounds |= {(number, site) for number in charged}
        log = SiteLog(run.kit(site) / "state/site-log.jsonl")
        left = {e.details["message"] for e in log.entries() if e.event == "left"}
        assert left == {"query.relay", "train"}
    taken = {(int(row["round"]), row["site"]) for row in run.sites() if row["status"] == "ok"}
    assert len(taken) == 6
    sent = {
        (int(row["round"]) - int(row["staleness"]), row["site"])
        for row in run.sites()
        if row["status"] == "ok"
    }
    assert sent <= rounds  # what was averaged was paid for, in the round in which it was asked for
