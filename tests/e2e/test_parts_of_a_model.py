"""Whole runs in which a part of the model is trained: what travels, and what comes of it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model
from tests.e2e.runner import TINY, InProcess

QUICK = (*TINY, "report.saliency=0", "federation.rounds=1", "federation.min_sites=3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of first weights."""
    path = tmp_path_factory.mktemp("weights") / "first.safetensors"
    model = build_model(ModelConfig(name="simpleconv"), outputs=3, channels=1, seed=5)
    save_file(model.state_dict(), path)
    return path


def _bytes_up(run_dir: Path) -> int:
    (row,) = csv.DictReader((run_dir / "history.csv").open())
    return int(row["bytes_up"])


# Numbers that a site sends: statistics of 480 channels twice, 771 of the head; adapters of rank 8
# beside layers of 32 x 9 to 64, 64 x 9 to 128 and 128 x 9 to 256: 8 (288 + 64 + 576 + ...).
SENT = 2 * 480 + 771 + 8 * (352 + 704 + 1408)


def test_secure_and_plain_runs_of_adapters_end_in_the_same_plain_model(
    tmp_path: Path, weights: Path
) -> None:
    primia = InProcess(tmp_path)
    options = [*QUICK, f"model.weights={weights}", "model.trainable=lora"]
    for kind, more in (("secure", ()), ("plain", ("strategy.weight_digits=2",))):
        done = primia("train", *options, f"aggregation={kind}", f"output_dir={kind}", *more)
        assert done.returncode == 0, done.stderr
    secure, plain, first = (
        load_file(path)
        for path in (
            tmp_path / "secure/model.safetensors",
            tmp_path / "plain/model.safetensors",
            weights,
        )
    )
    assert secure.keys() == plain.keys() == first.keys()
    assert all(secure[name].equal(plain[name]) for name in plain)
    changed = {name for name in first if not first[name].equal(plain[name])}
    assert {name for name in changed if name.endswith(".weight")} == {
        *(f"features.{n}.weight" for n in (4, 8, 12)),
        "classifier.weight",
    }
    assert load_model(tmp_path / "plain")[1].model.trainable == "all"
    sent = 3 * 4 * SENT
    assert sent <= _bytes_up(tmp_path / "plain") < 1.1 * sent + 10_000
    assert sent <= _bytes_up(tmp_path / "secure") < 1.1 * sent + 30_000
