"""The real app over a real federation (TLS, keys, gates), and which kills it survives."""

from __future__ import annotations

import csv
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primia_flwr.config.load import compose, parse
from primia_flwr.config.schema import Experiment
from primia_flwr.federation.loopback import LoopbackFederation
from primia_flwr.federation.pipeline import run_experiment, settle
from primia_flwr.federation.trial import deployed, loopback_federation
from primia_flwr.models.saved import load_model
from primia_flwr.site.site_log import SiteLog
from tests.e2e.runner import TINY, Primia, events, last_json, processes_of

pytestmark = pytest.mark.timeout(600)
ROUNDS = 4


class _Silent:
    def update(self) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, name: str, done: float, total: float, note: str) -> None: ...


class Disturbed:
    """A run over a real federation, and something that happens to it in its second round."""

    def __init__(self, folder: Path, **federation: Any) -> None:
        overrides = [*TINY, f"output_dir={folder}", f"data.cache_dir={folder}/cache"]
        experiment = parse(Experiment, compose("config", overrides))
        settings = replace(experiment.federation, rounds=ROUNDS, min_sites=2, **federation)
        self.folder = folder
        self.experiment = settle(replace(experiment, federation=settings), folder)

    def run(self, disturb: Callable[[LoopbackFederation], None]) -> dict[str, Any]:
        """Run in a thread; disturb from the main one, whose children outlive it (PDEATHSIG)."""
        results: list[dict[str, Any]] = []
        with loopback_federation(self.experiment, self.folder / "trial") as federation:
            experiment = deployed(self.experiment, federation)

            def train() -> None:
                results.append(run_experiment(experiment, self.folder, _Silent()))

            thread = threading.Thread(target=train)
            thread.start()
            self._wait_for_round_two()
            disturb(federation)
            thread.join()
        assert not processes_of(self.folder)
        return results[0]

    def _wait_for_round_two(self) -> None:
        end = time.monotonic() + 300
        while not any(e["event"] == "round_started" and e["round"] == 2 for e in self.events()):
            assert time.monotonic() < end, "round 2 never came"
            time.sleep(0.1)
        time.sleep(0.5)

    def events(self) -> list[dict[str, Any]]:
        return events(self.folder)

    def sites(self) -> list[dict[str, str]]:
        return list(csv.DictReader((self.folder / "sites.csv").open()))

    def model_hash(self) -> str:
        return hashlib.sha256((self.folder / "model.safetensors").read_bytes()).hexdigest()


def test_trial_from_certificates_to_report(primia: Primia) -> None:
    done = primia("federation", "trial", *TINY, "federation.rounds=2", seconds=550)
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


@pytest.mark.slow
def test_secure_trial_gives_sums_only_over_tls_and_gates(primia: Primia) -> None:
    options = (*TINY, "federation.rounds=2", "strategy=secagg", "output_dir=run")
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
def test_killed_supernode_costs_its_round_and_no_more(tmp_path: Path) -> None:
    run = Disturbed(tmp_path / "run", round_timeout=45.0)

    def kill(federation: LoopbackFederation) -> None:
        federation.sites["site-2"].kill()

    assert run.run(kill)["rounds"] == ROUNDS
    status = {(row["round"], row["site"]): row["status"] for row in run.sites()}
    assert all(
        status[str(number), site] == "ok"
        for number in (1, 2, 3, 4)
        for site in ("site-1", "site-3")
    )
    assert status["1", "site-2"] == "ok"
    assert status["4", "site-2"] in ("failed", "late")


@pytest.mark.slow
def test_killed_superlink_changes_nothing(tmp_path: Path) -> None:
    undisturbed = Disturbed(tmp_path / "undisturbed")
    assert undisturbed.run(lambda _: None)["rounds"] == ROUNDS

    def kill_and_restart(federation: LoopbackFederation) -> None:
        federation.superlink.kill_link()
        time.sleep(3)
        federation.superlink.start_link()

    disturbed = Disturbed(tmp_path / "disturbed")
    assert disturbed.run(kill_and_restart)["rounds"] == ROUNDS
    assert all(row["status"] == "ok" for row in disturbed.sites())
    assert disturbed.model_hash() == undisturbed.model_hash()
