"""The real app over a real federation (TLS, keys, gates), and which kills it survives."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from primia_flwr.models.saved import load_model
from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.site.log import SiteLog
from primia_flwr.trials.loopback import LoopbackFederation
from tests.e2e.disturbed import Disturbance, Disturbed, kill
from tests.e2e.runner import TINY, Primia, last_json
from tests.faults.crashes import kill_leader

pytestmark = pytest.mark.timeout(600)
ROUNDS = 4
PLAIN = "aggregation=plain"
IN_ROUND_TWO = {"event": "round_started", "round": 2}


@pytest.mark.slow
def test_plain_trial_from_certificates_to_report(primia: Primia) -> None:
    done = primia("federation", "trial", *TINY, "federation.rounds=2", PLAIN, seconds=550)
    assert done.returncode == 0, done.stderr
    result = last_json(done.stdout)
    run_dir = primia.folder / result["run"]
    assert result["rounds"] == 2
    assert 0 <= result["accuracy"] <= 1
    rows = list(csv.DictReader((run_dir / "sites.csv").open()))
    assert [(row["round"], row["site"], row["status"]) for row in rows] == [
        (str(number), f"site-{site}", "ok") for number in (1, 2) for site in (1, 2, 3)
    ]
    assert load_model(run_dir)[1].synthetic
    assert "synthetic" in (run_dir / "report.html").read_text().lower()
    log = SiteLog(run_dir / "trial/federation/kit-site-1/state/site-log.jsonl")
    left = [entry for entry in log.entries() if entry.event == "left"]
    assert [entry.details["message"] for entry in left] == [
        "query.statistics",
        "train",
        "train",
        "evaluate",
    ]


@pytest.mark.system
def test_trial_gives_sums_only_over_tls_and_gates(primia: Primia) -> None:
    options = (*TINY, "federation.rounds=2", "output_dir=run")
    done = primia("federation", "trial", *options, seconds=550)
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout)["rounds"] == 2
    run_dir = primia.folder / "run"
    rows = list(csv.DictReader((run_dir / "sites.csv").open()))
    assert len(rows) == 6
    for row in rows:
        assert {key: value for key, value in row.items() if value} == {
            "round": row["round"],
            "site": row["site"],
            "status": "ok",
        }
    facts = json.loads((run_dir / "run.json").read_text())
    counts = facts["validation"]["counts"]["confusion"]
    assert sum(counts) == facts["validation"]["n"] > 0
    assert sum(facts["label_counts"]) > 0
    state = run_dir / "trial/federation/kit-site-1/state"
    log = SiteLog(state / "site-log.jsonl")
    left = [entry.details["message"] for entry in log.entries() if entry.event == "left"]
    assert left == [
        *["query.secagg"] * 3,  # hello, keys, shares
        *["query.statistics", "query.secagg"],
        *["train", "query.secagg"] * 2,
        *["evaluate", "query.secagg"],
    ]
    assert (state / "secagg/answered.jsonl").exists()


@pytest.mark.slow
def test_private_trial_is_charged_at_each_hospital_under_its_own_ceiling(primia: Primia) -> None:
    private = ("privacy=dp_sgd", "privacy.expected_batch=8", "privacy.steps=2", "privacy.epsilon=5")
    options = (*TINY, "model.norm=group", *private, "federation.rounds=2", "output_dir=run")
    done = primia("federation", "trial", *options, seconds=550)
    assert done.returncode == 0, done.stderr
    kits = sorted((primia.folder / "run/trial/federation").glob("kit-site-*"))
    assert len(kits) == 3
    for kit in kits:
        with read_ledger(kit / "state/privacy") as ledger:
            charges = ledger.charges()
            assert [charge.instance for charge in charges] == [1, 2]
            assert all(charge.ceiling == 5 for charge in charges)
            assert ledger.spent(charges[-1].version) <= 5
        log = SiteLog(kit / "state/site-log.jsonl")
        left = {e.details["message"] for e in log.entries() if e.event == "left"}
        assert left == {"query.secagg", "train"}  # neither statistics nor an evaluation
    report = (primia.folder / "run/report.html").read_text()
    assert "The sites' ledgers are at the sites" in report.replace("&#39;", "'")


@pytest.mark.slow
def test_killed_supernode_costs_its_round_and_no_more(tmp_path: Path) -> None:
    run = Disturbed(tmp_path / "run", PLAIN, rounds=ROUNDS, min_sites=2, round_timeout=45.0)
    result = run.run(Disturbance(kill("site-2"), IN_ROUND_TWO, after=0.5))
    assert result["rounds"] == ROUNDS
    status = {(row["round"], row["site"]): row["status"] for row in run.sites()}
    assert all(
        status[str(number), site] == "ok"
        for number in (1, 2, 3, 4)
        for site in ("site-1", "site-3")
    )
    assert status["1", "site-2"] == "ok"
    assert status["4", "site-2"] in ("failed", "late")


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["plain", "secure"])
def test_killed_superlink_changes_nothing(tmp_path: Path, aggregation: str) -> None:
    overrides = (f"aggregation={aggregation}", f"federation.rounds={ROUNDS}")
    undisturbed = Disturbed(tmp_path / "undisturbed", *overrides)
    assert undisturbed.run()["rounds"] == ROUNDS

    def kill_and_restart(federation: LoopbackFederation) -> None:
        kill_leader(federation.superlink._link)
        time.sleep(3)
        federation.superlink.start_link()

    disturbed = Disturbed(tmp_path / "disturbed", *overrides)
    result = disturbed.run(Disturbance(kill_and_restart, IN_ROUND_TWO, after=0.5))
    assert result["rounds"] == ROUNDS
    assert all(row["status"] == "ok" for row in disturbed.sites())
    assert disturbed.model_hash() == undisturbed.model_hash()
