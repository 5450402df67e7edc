"""A search with real federated runs: killed in the middle, gone on with, a trial that diverges."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import optuna
import pytest

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, config_hash, load_experiment, parse
from tests.e2e.runner import TINY, Primia, events, last_json, processes_of

FAST = (*TINY, "aggregation=plain", "federation.rounds=2", "sweep.sampler=random")
SPACE = "training.learning_rate: {choices: [1.0e-3, 1.0e+30]}\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_goes_on_and_names_the_trial_that_diverged(tmp_path: Path) -> None:
    primia = Primia(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    folder = tmp_path / "search"
    process = primia.start(
        "train", "-m", "sweep=default", "sweep.space_file=space.yaml", "sweep.trials=2",
        "sweep.seed=0", *FAST, f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    _wait(lambda: any(e["event"] == "round_started" for e in events(folder / "0")), 240)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _wait(lambda: not processes_of(tmp_path), 60)

    done = primia("train", "-m", f"sweep.resume={folder}", seconds=500)

    assert done.returncode == 0, done.stderr
    line = last_json(done.stdout)
    assert (line["trials"], line["complete"], line["diverged"]) == (2, 1, 1)
    found = json.loads((folder / "sweep.json").read_text())
    again, absurd = found["trials"]
    # Trial 0 was killed: it is kept as failed, and its point was asked again as trial 1.
    study = optuna.load_study(study_name="primia", storage=f"sqlite:///{folder / 'study.db'}")
    assert [t.user_attrs["outcome"] for t in study.trials] == [
        "interrupted",
        "complete",
        "diverged",
    ]
    assert again["trial"] == 1
    assert again["default"]
    assert absurd["values"] == {"training.learning_rate": 1e30}
    assert "the training diverged" in absurd["reason"]
    assert json.loads((folder / "2" / "run.json").read_text())["status"] == "diverged"
    # The objective is the validation MCC of the run, and no trial has looked at the test images.
    metrics = json.loads((folder / "1" / "metrics.json").read_text())
    assert metrics["test"] is None
    assert not (folder / "1" / "predictions.csv").exists()
    rounds = [e for e in events(folder / "1") if e["event"] in ("round_finished", "validated")]
    scores = [e["val_mcc"] for e in rounds if e["val_mcc"] is not None]
    assert again["val_mcc"] == max(scores)
    page = (folder / "sweep.html").read_text()
    assert page.count("<svg") == 1
    assert "the training diverged" in page
    # The best point is an experiment like any other.
    best = parse(Experiment, compose("config", [f"experiment={folder}/experiment/best.yaml"]))
    ran = load_experiment((folder / "1" / "config.yaml").read_text())
    assert config_hash(best) == config_hash(ran)
    assert not processes_of(tmp_path)


def _wait(condition: object, seconds: float) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)
