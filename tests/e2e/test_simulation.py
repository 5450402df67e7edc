"""`primia train` in simulation: outputs, resume after a crash, sweeps, nothing left behind."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from primia_flwr.models.saved import load_model
from tests import class_predictions
from tests.e2e.runner import TINY, Primia, events, last_json, processes_of


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_a_run_leaves_what_it_promises_and_nothing_else(primia: Primia) -> None:
    before = set(os.listdir(tempfile.gettempdir()))
    done = primia("train", *TINY, "federation.rounds=2", "baselines=[local,centralised]")
    assert done.returncode == 0, done.stderr
    result = last_json(done.stdout)
    assert set(result) == {"run", "rounds", "accuracy", "mcc", "roc_auc", "seconds"}
    run_dir = primia.folder / result["run"]
    expected = "config.yaml run.json metrics.json history.csv sites.csv predictions.csv report.html"
    for name in [*expected.split(), "model.safetensors", "model.json", "plots", "logs"]:
        assert (run_dir / name).exists(), name
    assert set(os.listdir(primia.folder)) == {"outputs", ".primia"}
    new = {n for n in set(os.listdir(tempfile.gettempdir())) - before if n.startswith("primia")}
    assert not new
    history = list(csv.DictReader((run_dir / "history.csv").open()))
    assert [row["round"] for row in history] == ["1", "2"]
    assert all(row["sites"] == "3" and float(row["val_loss"]) > 0 for row in history)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert set(metrics["local"]) == {"site-1", "site-2", "site-3"}
    predictions = class_predictions.read(run_dir / "predictions.csv")
    assert metrics["federated"]["n"] == len(predictions.labels) == metrics["centralised"]["n"]
    card = load_model(run_dir)[1]
    assert card.synthetic
    assert len(card.classes) == 3
    assert "synthetic" in (run_dir / "report.html").read_text().lower()


def test_a_checkout_may_have_any_name(environment_with_a_space: Path) -> None:
    folder = environment_with_a_space.parents[1] / "my checkout"
    folder.mkdir()
    primia = Primia(folder, python=environment_with_a_space)
    done = primia("train", *TINY, "federation.rounds=1")
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout)["rounds"] == 1
    assert not processes_of(folder)


def test_secure_aggregation_gives_the_plain_model_and_keeps_single_sites_to_themselves(
    primia: Primia,
) -> None:
    options = [*TINY, "federation.rounds=1", "federation.min_sites=3"]
    ways = ("secure", "plain")
    for way in ways:
        done = primia("train", *options, f"aggregation={way}", f"output_dir={way}")
        assert done.returncode == 0, done.stderr
    secure, plain = (load_file(primia.folder / way / "model.safetensors") for way in ways)
    images = sum(
        site["train"]
        for site in json.loads((primia.folder / "plain/run.json").read_text())["sites"]
    )
    bound = 1.5 * 32 / (2**31 / 3) * 10_000 / images  # |S|/2 step w_max / sum of the weights
    for name, array in plain.items():
        difference = np.abs(secure[name].astype(np.float64) - array).max()
        assert difference <= bound + 1e-6 * np.abs(array).max(), name
    for row in csv.DictReader((primia.folder / "secure" / "sites.csv").open()):
        assert {key for key, value in row.items() if value} == {"round", "site", "status"}
    assert "Secure aggregation" in (primia.folder / "secure/report.html").read_text()
    assert "Not private" in (primia.folder / "plain/report.html").read_text()
    control = ("aggregation=plain", "strategy.weight_digits=2", "output_dir=control")
    done = primia("train", *options, *control)
    assert done.returncode == 0, done.stderr
    weights = {_sha256(primia.folder / run / "model.safetensors") for run in ("secure", "control")}
    assert len(weights) == 1  # masks, keys and shares leave no trace in the model


def test_killed_launcher_resumes_bit_for_bit(primia: Primia) -> None:
    options = [*TINY, "federation.rounds=4", "training.optimizer_state=keep"]
    whole = primia("train", *options, "output_dir=whole")
    assert whole.returncode == 0, whole.stderr
    broken = primia.folder / "broken"
    launcher = primia.start("train", *options, f"output_dir={broken}")
    _wait(lambda: any(e["event"] == "round_finished" for e in events(broken)))
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.communicate()
    _wait(lambda: not processes_of(primia.folder), 60)
    assert not (broken / "result.json").exists()
    resumed = primia("train", f"resume={broken}")
    assert resumed.returncode == 0, resumed.stderr
    assert last_json(resumed.stdout)["rounds"] == 4
    assert any(e["event"] == "resumed" for e in events(broken))
    assert _sha256(broken / "model.safetensors") == _sha256(
        primia.folder / "whole/model.safetensors"
    )
    columns = ("round", "train_loss", "val_loss", "val_mcc", "sites")
    for one, other in zip(
        csv.DictReader((broken / "history.csv").open()),
        csv.DictReader((primia.folder / "whole" / "history.csv").open()),
        strict=True,
    ):
        assert [one[c] for c in columns] == [other[c] for c in columns]


def test_sweep_runs_every_job(primia: Primia) -> None:
    done = primia("train", "-m", *TINY, "federation.rounds=1", "seed=1,2")
    assert done.returncode == 0, done.stderr
    runs = last_json(done.stdout)["runs"]
    assert [run["overrides"][-1] for run in runs] == ["seed=1", "seed=2"]
    assert len({run["run"] for run in runs}) == 2
    for run in runs:
        assert (Path(primia.folder) / run["run"] / "report.html").is_file()


def test_dry_run_plans_and_writes_nothing(primia: Primia) -> None:
    done = primia("train", *TINY, "dry_run=true")
    assert done.returncode == 0, done.stderr
    plan = last_json(done.stdout)
    assert len(plan["bundle"]) == 64
    assert [site["site"] for site in plan["sites"]] == ["site-1", "site-2", "site-3"]
    assert not (primia.folder / "outputs").exists()
