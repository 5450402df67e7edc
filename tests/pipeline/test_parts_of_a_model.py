"""Whole runs in which a part of the model is trained: what travels, and what comes of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import CheckpointError
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model
from tests.e2e.in_memory import without_processes
from tests.e2e.runner import TINY, InProcess, last_json

QUICK = (*TINY, "report.saliency=0", "federation.rounds=1", "federation.min_sites=3")


@pytest.fixture(scope="module", autouse=True)
def _in_one_process() -> Iterator[None]:
    with without_processes():
        yield


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
    options = [*QUICK, f"model.weights={weights}", "model.trainable=lora", "task=conformal"]
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
    assert sent <= _bytes_up(tmp_path / "secure") < 1.1 * sent + 60_000
    _check_sets(primia)


def _check_sets(primia: InProcess) -> None:
    """Both runs, of the same model, count the same scores; a set holds what it says."""
    cards = [load_model(primia.folder / kind)[1] for kind in ("secure", "plain")]
    assert cards[0].set_scores == cards[1].set_scores
    patients = sum(map(sum, cards[0].set_scores))
    validation = json.loads((primia.folder / "plain/run.json").read_text())["validation"]
    assert 0 < patients <= validation["n"]
    done = primia("evaluate", "run=secure", "coverage=0.8")
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader((primia.folder / "secure/evaluation/own-test/sets.csv").open()))
    held = [line["label"] in line["set"].split(";") for line in lines]
    assert last_json(done.stdout)["coverage"] == pytest.approx(sum(held) / len(held))
    metrics = json.loads((primia.folder / "secure/metrics.json").read_text())
    assert metrics["sets"]["asked"] == 0.9
    assert "Sets of classes" in (primia.folder / "secure/report.html").read_text()
    images = next(primia.folder.glob(".primia/cache/synthetic*/NORMAL"))
    done = primia("predict", "run=secure", f"data.root={images}", "output=told", "coverage=0.99")
    assert done.returncode == 0, done.stderr
    told = list(csv.DictReader((primia.folder / "told/predictions.csv").open()))
    # too few patients for so much: every class is in every set
    assert {line["set"] for line in told} == {"bacterial;normal;viral"}
    refused = primia("evaluate", "run=secure", "coverage=1.0")
    assert refused.returncode != 0
    assert "coverage=1.0; expected" in refused.stderr


@pytest.fixture(scope="module")
def own_norms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a secure run whose sites have norm layers of their own."""
    primia = InProcess(tmp_path_factory.mktemp("own"))
    options = [*QUICK, "federation.rounds=2", "model.shared=no_norm", "output_dir=run"]
    options.append("baselines=[local]")
    done = primia("train", *options)
    assert done.returncode == 0, done.stderr
    return primia.folder / "run"


def test_own_layers_leave_a_site_in_no_message_and_are_saved_there(own_norms: Path) -> None:
    models = [load_file(own_norms / f"sites/site-{n}/model/model.safetensors") for n in (1, 2, 3)]
    shared = load_file(own_norms / "model.safetensors")
    own = {name for name in shared if name.startswith(("features.1.", "features.5."))}
    own |= {name for name in shared if name.startswith(("features.9.", "features.13."))}
    own -= {name for name in own if name.endswith("num_batches_tracked")}
    assert len(own) == 16  # four layers: scale, shift, mean, variance
    first = build_model(ModelConfig(name="simpleconv"), outputs=3, channels=1, seed=1)
    for name in own:
        assert shared[name].equal(first.state_dict()[name]), name  # ones and zeros, as ever
        assert not models[0][name].equal(models[1][name]), name
    for name in shared.keys() - own:
        assert all(model[name].equal(shared[name]) for model in models), name
    kept = [model[name].numpy().tobytes() for model in models for name in sorted(own)]
    seen = [path for path in own_norms.rglob("*") if path.is_file() and "sites" not in path.parts]
    for path in seen:
        content = path.read_bytes()
        assert not any(part in content for part in kept), path


def test_the_model_of_the_coordinator_says_what_it_lacks(own_norms: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks its norm layers: each site has its own"):
        load_model(own_norms)
    model, card = load_model(own_norms / "sites/site-2/model")
    assert card.site == "site-2"
    assert model.training is False
    assert json.loads((own_norms / "model.json").read_text())["lacks"] == "norm layers"
    metrics = json.loads((own_norms / "metrics.json").read_text())
    assert set(metrics["own"]) == set(metrics["local"]) == {"site-1", "site-2", "site-3"}
    assert "federated" not in metrics
    inside = InProcess(own_norms.parent)
    done = inside("evaluate", "run=run/sites/site-2/model")
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout)["mcc"] == pytest.approx(metrics["own"]["site-2"]["mcc"], abs=1e-6)
    refused = inside("evaluate", "run=run")
    assert refused.returncode != 0
    assert "sites/<site>/model" in refused.stderr
