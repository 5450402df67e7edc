"""A relay over a real federation: TLS, keys, gates, three SuperNodes; sealed, and private."""

from __future__ import annotations

import csv
import json

import pytest

from primia_flwr.privacy.ledger.view import read_ledger
from primia_flwr.site.log import SiteLog
from tests.e2e.disturbed import Disturbance, Disturbed, kill
from tests.e2e.runner import TINY, Primia, last_json

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
SEALED = ("strategy=cyclic", "aggregation.sealed=true", "data.normalisation.kind=fixed")


def test_sealed_and_private_over_real_sites(primia: Primia) -> None:
    private = ("privacy=dp_sgd", "privacy.expected_batch=8", "privacy.steps=2", "privacy.epsilon=5")
    options = (*TINY, *SEALED, *private, "model.norm=group", "federation.rounds=2")
    done = primia("federation", "trial", *options, "output_dir=run", seconds=550)
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout)["rounds"] == 2
    run_dir = primia.folder / "run"
    rows = list(csv.DictReader((run_dir / "sites.csv").open()))
    told = [{key: value for key, value in row.items() if value} for row in rows]
    assert told == [
        {"round": str(number), "site": f"site-{site}", "status": "ok"}
        for number in (1, 2)
        for site in (1, 2, 3)
    ]
    for kit in sorted((run_dir / "trial/federation").glob("kit-site-*")):
        with read_ledger(kit / "state/privacy") as ledger:
            assert [charge.instance for charge in ledger.charges()] == [1, 2]
            assert ledger.spent(ledger.charges()[-1].version) <= 5
        log = SiteLog(kit / "state/site-log.jsonl")
        left = {e.details["message"] for e in log.entries() if e.event == "left"}
        assert left == {"query.relay", "train"}


def test_where_nothing_is_revealed_the_model_is_at_the_sites(primia: Primia) -> None:
    options = (*TINY, *SEALED, "aggregation.reveal=never", "federation.rounds=1", "output_dir=run")
    done = primia("train", *options)
    assert done.returncode == 0, done.stderr
    run_dir = primia.folder / "run"
    assert json.loads((run_dir / "result.json").read_text())["model"] == "at the sites"
    assert not (run_dir / "model.safetensors").exists()
    weights = {
        (run_dir / f"sites/site-{n}/model/model.safetensors").read_bytes() for n in (1, 2, 3)
    }
    assert len(weights) == 1


def test_a_killed_supernode_is_skipped_and_the_others_hand_the_model_on(tmp_path) -> None:
    run = Disturbed(tmp_path / "run", "strategy=cyclic", rounds=3, min_sites=2, round_timeout=45.0)
    in_round_two = {"event": "round_started", "round": 2}
    result = run.run(Disturbance(kill("site-2"), in_round_two, after=0.5))
    assert result["rounds"] == 3
    status = {(row["round"], row["site"]): row["status"] for row in run.sites()}
    assert all(status[str(n), site] == "ok" for n in (1, 2, 3) for site in ("site-1", "site-3"))
    assert status["3", "site-2"] in ("failed", "late")
