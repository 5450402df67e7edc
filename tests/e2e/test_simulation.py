"""`primia train` in simulation: outputs, resume after a crash, sweeps, nothing left behind."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from primia_flwr.models.saved import load_model
from tests import class_predictions
from tests.conftest import stand_in_with_a_space
from tests.e2e.in_memory import killed_in_memory, without_processes
from tests.e2e.runner import (
    TINY,
    InProcess,
    Primia,
    events,
    killed_launcher,
    last_json,
    processes_of,
    wait,
)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


WHOLE = (*TINY, "federation.rounds=3", "training.optimizer_state=keep")


@dataclass(frozen=True)
class Finished:
    """A run that went through undisturbed, and what it left in the temporary folder."""

    primia: Primia
    result: dict[str, Any]
    left: set[str]

    @property
    def folder(self) -> Path:
        return self.primia.folder / str(self.result["run"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "my checkout").mkdir()
    primia = Primia(folder / "my checkout", python=stand_in_with_a_space(folder))
    # Of its own, as others run at the same time; short, as sockets lie in it.
    with TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", scratch)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            patch.setenv(name, "http://127.0.0.1:9")  # where nobody answers
        done = primia("train", *WHOLE, "baselines=[local,centralised]")
        left = set(os.listdir(scratch))
    assert done.returncode == 0, done.stderr
    assert not processes_of(primia.folder)
    return Finished(primia, last_json(done.stdout), left)


def test_a_run_leaves_what_it_promises_and_nothing_else(finished: Finished) -> None:
    assert set(finished.result) == {"run", "rounds", "accuracy", "mcc", "roc_auc", "seconds"}
    run_dir = finished.folder
    expected = "config.yaml run.json metrics.json history.csv sites.csv predictions.csv report.html"
    for name in [*expected.split(), "model.safetensors", "model.json", "plots", "logs"]:
        assert (run_dir / name).exists(), name
    assert set(os.listdir(finished.primia.folder)) == {"outputs", ".primia"}
    assert not {name for name in finished.left if name.startswith("primia")}
    history = list(csv.DictReader((run_dir / "history.csv").open()))
    assert [row["round"] for row in history] == ["1", "2", "3"]
    assert all(row["sites"] == "3" and float(row["val_loss"]) > 0 for row in history)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert set(metrics["local"]) == {"site-1", "site-2", "site-3"}
    predictions = class_predictions.read(run_dir / "predictions.csv")
    assert metrics["federated"]["n"] == len(predictions.labels) == metrics["centralised"]["n"]
    card = load_model(run_dir)[1]
    assert card.synthetic
    assert len(card.classes) == 3
    assert "synthetic" in (run_dir / "report.html").read_text().lower()


def test_a_checkout_and_its_environment_may_have_any_name(finished: Finished) -> None:
    assert " " in finished.primia.folder.name
    assert " " in finished.primia.command()[0]
    assert finished.result["rounds"] == 3


def test_secure_aggregation_gives_the_plain_model_and_keeps_single_sites_to_themselves(
    primia: Primia, finished: Finished
) -> None:
    options = [*WHOLE, "report.saliency=0", "aggregation=plain", "strategy.weight_digits=2"]
    with without_processes():  # the same bits as over real ones
        done = InProcess(primia.folder)("train", *options, "output_dir=plain")
    assert done.returncode == 0, done.stderr
    secure, plain = finished.folder, primia.folder / "plain"
    weights = {_sha256(run / "model.safetensors") for run in (secure, plain)}
    assert len(weights) == 1  # masks, keys and shares leave no trace in the model
    for row in csv.DictReader((secure / "sites.csv").open()):
        assert {key for key, value in row.items() if value} == {"round", "site", "status"}
    assert any(row["train_loss"] for row in csv.DictReader((plain / "sites.csv").open()))
    assert "Secure aggregation" in (secure / "report.html").read_text()
    assert "No secure aggregation" in (plain / "report.html").read_text()
    devices = json.loads((plain / "run.json").read_text())["devices"]
    assert set(devices) == {"site-1", "site-2", "site-3"}
    assert {name.split()[0] for name in devices.values()} == {"cpu"}


class OnTwoGpus(Primia):
    """Runs `primia` on a machine that says it has two GPUs, though none is really here."""

    def command(self, *arguments: str) -> list[str]:
        code = (
            "from primia_flwr.flower import shares; "
            "shares.gpu_memory = lambda: [80 << 30, 80 << 30]; "
            "from primia_flwr.cli.main import main; main()"
        )
        return [sys.executable, "-c", code, *arguments]


@pytest.mark.system
def test_who_stops_a_run_is_told_how_to_go_on(
    primia: Primia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    stopped = primia.folder / "stopped"
    options = (*WHOLE, "federation.rounds=50", f"output_dir={stopped}")
    launcher = OnTwoGpus(primia.folder).start("train", *options)
    wait(lambda: any(e["event"] == "round_finished" for e in events(stopped)))
    launcher.send_signal(signal.SIGTERM)  # as Ctrl-C: tests/cli/test_stopping.py
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert f"resume={stopped}" in said
    assert "stopped by the user" in said
    assert "Traceback" not in said
    assert json.loads((stopped / "run.json").read_text())["status"] == "stopped"
    wait(lambda: not processes_of(primia.folder), 60)
    # Ray hides all GPUs from who asks for no share of one.
    found = [json.loads(file.read_text()) for file in stopped.glob("sites/*/device.json")]
    assert len(found) == 3
    assert {one["visible_gpus"] for one in found} <= {"0", "1"}
    assert {one["device"].split()[0] for one in found} == {"cpu"}


@pytest.mark.system
@pytest.mark.parametrize(
    "killed", [killed_in_memory, pytest.param(killed_launcher, marks=pytest.mark.slow)]
)
def test_a_killed_run_resumes_bit_for_bit(
    primia: Primia, finished: Finished, killed: Callable[..., None]
) -> None:
    broken = primia.folder / "broken"
    killed(primia, broken, "train", *WHOLE)
    assert not (broken / "result.json").exists()
    began = json.loads((broken / "run.json").read_text())["started"]
    with without_processes():  # the same bits as over real ones
        resumed = InProcess(primia.folder)("train", f"resume={broken}")
    assert resumed.returncode == 0, resumed.stderr
    assert last_json(resumed.stdout)["rounds"] == 3
    assert any(e["event"] == "resumed" for e in events(broken))
    facts = json.loads((broken / "run.json").read_text())
    assert (facts["started"], len(facts["resumed"])) == (began, 1)
    assert 0 < facts["seconds_before"] < facts["seconds"]
    with (broken / "history.csv").open() as stream:
        val_mcc = {row["round"]: row["val_mcc"] for row in csv.DictReader(stream)}
    assert facts["validation"]["mcc"] == float(val_mcc[str(facts["best_round"])])
    assert _sha256(broken / "model.safetensors") == _sha256(finished.folder / "model.safetensors")
    columns = ("round", "train_loss", "val_loss", "val_mcc", "sites")
    for one, other in zip(
        csv.DictReader((broken / "history.csv").open()),
        csv.DictReader((finished.folder / "history.csv").open()),
        strict=True,
    ):
        assert [one[c] for c in columns] == [other[c] for c in columns]


def test_sweep_runs_every_job_and_one_that_fails_hides_no_other(primia: Primia) -> None:
    options = (*TINY, "report.saliency=0", "federation.rounds=1", "hydra.sweep.dir=many")
    with without_processes():
        done = InProcess(primia.folder)("train", "-m", *options, "training.learning_rate=-1,5e-4")
    assert done.returncode == 1, done.stderr
    result = last_json(done.stdout)
    failed, last = result["runs"]
    assert not result["ok"]
    assert failed["error"].startswith("training.learning_rate=-1")
    assert failed["error"] in " ".join(done.stderr.split())
    assert last["run"].endswith("many/1")
    assert (Path(primia.folder) / last["run"] / "report.html").is_file()
    before = _sha256(primia.folder / "many" / "multirun.yaml")
    refused = InProcess(primia.folder)("train", "-m", *options, "seed=1,2")
    assert refused.returncode == 2
    assert "hydra.sweep.dir=many" in refused.stderr
    assert "primia train -m resume=many" in refused.stderr
    assert _sha256(primia.folder / "many" / "multirun.yaml") == before


@pytest.mark.system
def test_a_sweep_that_was_killed_goes_on(primia: Primia) -> None:
    """What is finished is kept, what was begun goes on after its last round."""
    inside, many = InProcess(primia.folder), primia.folder / "many"
    options = (*TINY, "report.saliency=0", "federation.rounds=1", "hydra.sweep.dir=many")
    with without_processes():
        whole = inside("train", "-m", *options, "seed=1,2")
        assert whole.returncode == 0, whole.stderr
        models = [_sha256(many / str(job) / "model.safetensors") for job in range(2)]
        kept = {path: path.stat().st_mtime_ns for path in (many / "0").rglob("*")}
        (many / "1" / "metrics.json").unlink()
        (many / "1" / "model.safetensors").unlink()
        refused = inside("train", "-m", "resume=many", "seed=7")
        assert refused.returncode == 2
        assert "seed=7 with -m resume=many" in refused.stderr
        done = inside("train", "-m", "resume=many", "quiet=true")
    assert done.returncode == 0, done.stderr
    runs, before = last_json(done.stdout)["runs"], last_json(whole.stdout)["runs"]
    for run in (*runs, *before):
        del run["seconds"]
    assert [Path(run.pop("run")).name for run in runs] == ["0", "1"]
    assert [run["overrides"][-1] for run in runs] == ["quiet=True"] * 2
    for run, other in zip(runs, before, strict=True):
        assert (run["rounds"], run["mcc"]) == (other["rounds"], other["mcc"])
    assert [_sha256(many / str(job) / "model.safetensors") for job in range(2)] == models
    assert {path: path.stat().st_mtime_ns for path in (many / "0").rglob("*")} == kept
    assert any(event["event"] == "resumed" for event in events(many / "1"))
    nothing = inside("train", "-m", f"resume={many / '0'}")
    assert nothing.returncode == 2
    assert "expected the folder of a sweep (with a multirun.yaml)" in nothing.stderr


@pytest.mark.parametrize("key", ["output_dir", "hydra.run.dir"])
@pytest.mark.parametrize("dry", ["true", "false"])
def test_no_run_is_trained_over(primia: Primia, finished: Finished, key: str, dry: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    inside = InProcess(primia.folder)
    done = inside("train", *TINY, f"{key}={finished.folder}", f"dry_run={dry}")
    assert done.returncode == 2
    assert f"resume={finished.folder}" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")} == before


def test_dry_run_plans_and_writes_nothing(primia: Primia) -> None:
    done = InProcess(primia.folder)("train", *TINY, "dry_run=true")
    assert done.returncode == 0, done.stderr
    plan = last_json(done.stdout)
    assert len(plan["bundle"]) == 64
    assert [site["site"] for site in plan["sites"]] == ["site-1", "site-2", "site-3"]
    assert not (primia.folder / "outputs").exists()


@pytest.mark.parametrize(
    "where", [without_processes, pytest.param(nullcontext, marks=pytest.mark.slow)]
)
def test_run_folder_of_another_model(
    primia: Primia, finished: Finished, where: Callable[[], AbstractContextManager[None]]
) -> None:
    done = primia.folder / "done"
    shutil.copytree(finished.folder, done)
    config = done / "config.yaml"
    config.write_text(config.read_text().replace("name: simpleconv", "name: resnet18"))
    with where():
        refused = InProcess(primia.folder)("train", f"resume={done}")
    assert refused.returncode == 2
    assert "checkpoint" in refused.stderr
    assert "Traceback" not in refused.stderr
