"""The model card of an invented run: facts of the folder, nothing else, and the same each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import CheckpointError
from primia_flwr.models import ModelCard, build_model, save_model
from primia_flwr.models.card import weights_digest
from primia_flwr.reporting.model_card import write_model_card
from primia_flwr.runs.evidence import write_evidence

Maker = Callable[..., Path]
PRIVATE = """
privacy: {mode: dp_sgd, epsilon: 3.0, delta: 1.0e-5, unit: patient}
aggregation: {name: secure, min_survivors: 4, max_colluding: 1}
"""


def with_model(folder: Path) -> Path:
    cfg = ModelConfig(name="simpleconv")
    card = ModelCard(cfg, ("a", "b"), 1, 32, "squash", (0.5,), (0.2,), "c0ffee", 3, False)
    save_model(folder, build_model(cfg, outputs=2, channels=1, seed=0), card)
    return folder


@pytest.fixture
def folder(make_run_folder: Maker, tmp_path: Path) -> Path:
    return with_model(make_run_folder(tmp_path))


def test_it_names_the_weights_the_data_and_the_figures(folder: Path) -> None:
    write_evidence(folder, TASKS["classification"].judge, seed=1, resamples=100)
    text = write_model_card(folder).read_text()
    values = json.loads((folder / "model_card.json").read_text())
    scores = json.loads((folder / "metrics.json").read_text())["federated"]
    assert values["model"]["sha256"] == weights_digest(folder)
    assert weights_digest(folder) in text
    assert "| munich | 1354 | 239 | normal 412, bacterial 780, viral 401 |" in text
    assert values["metrics"]["figures"]["mcc"] == scores["mcc"]
    found = values["metrics"]["intervals"]["mcc"]
    assert found["value"] == pytest.approx(scores["mcc"])
    assert found["low"] < found["value"] < found["high"]
    assert f"| mcc | {scores['mcc']:.3f} [{found['low']:.3f}, {found['high']:.3f}] |" in text
    for heading in ("Intended use", "Data", "Training", "Metrics", "Privacy", "Limits"):
        assert f"\n## {heading}\n" in text
    assert "not a medical device" in text
    assert "No secure aggregation" in text
    assert "No differential privacy" in text
    assert "synthetic" not in text


def test_what_a_search_chose_is_how_the_model_was_trained(folder: Path) -> None:
    values = {"training.learning_rate": 0.00099, "training.weight_decay": 0.0079}
    (folder / "result.json").write_text(json.dumps({"values": values}))
    text = write_model_card(folder).read_text()
    card = json.loads((folder / "model_card.json").read_text())
    assert card["training"]["recipe"]["learning_rate"] == 0.00099
    assert card["training"]["chosen_by_search"] == values
    assert card["model"]["config_hash"] == "c0ffee"  # as model.json says
    assert "| Chosen by the search: training.weight_decay | 0.0079 |" in text


def test_the_same_folder_gives_the_same_text(folder: Path) -> None:
    first = write_model_card(folder).read_bytes()
    assert write_model_card(folder).read_bytes() == first
    assert not list(folder.glob(".model_card*"))


def test_without_evidence_or_test_set_it_says_so(folder: Path) -> None:
    assert "Without intervals" in write_model_card(folder).read_text()
    (folder / "metrics.json").write_text('{"test": null}')
    text = write_model_card(folder).read_text()
    assert "None: the coordinator had no test set" in text
    assert "calibration on the test set was not measured" in text


def test_synthetic_images_and_unknown_counts_are_said(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    sites = [{"site": "munich"}, {"site": "paris"}]
    folder = make_run_folder(tmp_path, synthetic=True, sites=sites, deployment="deployment")
    text = write_model_card(with_model(folder)).read_text()
    assert "Trained on synthetic images" in text
    assert "is not known to the coordinator (2 sites: munich, paris)" in text
    assert "The sites are real" in text


def test_images_that_a_generator_made_are_said(make_run_folder: Maker, tmp_path: Path) -> None:
    text = write_model_card(with_model(make_run_folder(tmp_path, generated="made <b>"))).read_text()
    assert "**Trained on made" in text
    assert "of no patient" not in text


def test_the_privacy_of_the_run_stands_in_it_with_its_unit_and_delta(folder: Path) -> None:
    config = folder / "config.yaml"
    config.write_text(config.read_text() + PRIVATE)
    text = write_model_card(folder).read_text()
    values = json.loads((folder / "model_card.json").read_text())["privacy"]
    assert values["secure_aggregation"] == {"min_survivors": 4, "max_colluding": 1}
    facts = values["differential_privacy"]
    assert (facts["unit"], facts["delta"], facts["epsilon_asked"]) == ("patient", 1e-5, 3.0)
    assert "`min_survivors=4`, `max_colluding=1`" in text
    assert "| neighbouring | one patient zeroed out at one site; the number of units is" in text
    assert "Asked for was epsilon = 3 at delta = 1e-05" in text


def test_a_name_cannot_break_the_table(make_run_folder: Maker, tmp_path: Path) -> None:
    sites = [{"site": "a|b\n# c", "train": 1, "val": 1, "label_counts": {"x|y": 1}}]
    text = write_model_card(with_model(make_run_folder(tmp_path, sites=sites))).read_text()
    assert r"| a\|b # c | 1 | 1 | x\|y 1 |" in text


def test_no_model_no_card(make_run_folder: Maker, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.json cannot be read"):
        write_model_card(make_run_folder(tmp_path))
    assert not (tmp_path / "model_card.md").exists()
