"""Whole runs of several findings, secure and plain, in one process."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity

from primia_flwr.cli.main import run as main
from primia_flwr.config.load import to_yaml
from primia_flwr.config.rows import TASKS
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.tasks.findings import UNKNOWN
from tests.walks.federation import Federation


def run(folder: Path, *words: str) -> Federation:
    made = Federation(folder, "task=multilabel", "federation.min_sites=3", *words)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_run_id", "_node_id", "_task_id"):
            patch.setattr(TaskIdentity, name, 1)
        made.run()
    (made.folder / "config.yaml").write_text(to_yaml(made.experiment))
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    words = ("training.class_weights=balanced",)
    folder = tmp_path_factory.mktemp("runs")
    return {
        way: run(folder / way, *words, f"aggregation={way}").folder for way in ("secure", "plain")
    }


def test_secure_and_plain_train_the_same_model(runs: dict[str, Path]) -> None:
    """Bit for bit: the balanced weights of the whole federation, too, come from secure sums."""
    secure, plain = ((runs[way] / "model.safetensors").read_bytes() for way in ("secure", "plain"))
    assert secure == plain
    card = json.loads((runs["secure"] / "model.json").read_text())
    assert card["several"] is True
    assert len(card["classes"]) == 5


def test_both_ways_sum_the_same_scores(runs: dict[str, Path]) -> None:
    secure, plain = ((runs[way] / "history.csv").read_text() for way in ("secure", "plain"))
    columns = secure.splitlines()[0].split(",")
    first, second = (
        [dict(zip(columns, row.split(","), strict=True)) for row in text.splitlines()[1:]]
        for text in (secure, plain)
    )
    for one, other in zip(first, second, strict=True):
        assert one["val_auc"] == other["val_auc"]
        assert float(one["val_loss"]) == pytest.approx(float(other["val_loss"]), abs=1e-4)


def test_a_saved_model_is_scored_and_asked(runs: dict[str, Path], tmp_path: Path) -> None:
    """`primia predict` says of a file, without its label, what `primia evaluate` found."""
    folder = runs["plain"]
    assert main(["evaluate", f"run={folder}", "name=own", "quiet=true"]) == 0
    made = read_predictions(
        folder / "evaluation" / "own" / "predictions.csv", TASKS["multilabel"].judge
    )
    assert made.labels.shape == made.outputs.shape == (len(made), 5)
    assert (made.labels == UNKNOWN).any()
    images = next((folder.parent / "cache").glob("synthetic-studies-*"))
    asked = [f"run={folder}", f"data.root={images / made.files[0]}", f"output={tmp_path / 'p'}"]
    assert main(["predict", *asked, "quiet=true"]) == 0
    ((row,), header) = _rows(tmp_path / "p" / "predictions.csv")
    told = dict(zip(header, row, strict=True))
    p = [float(told[f"p_{name}"]) for name in made.names]
    assert p == pytest.approx(made.outputs[0].tolist(), abs=1e-5)
    called = [name for name, one in zip(made.names, p, strict=True) if one >= 0.5]
    assert told["prediction"] == (" | ".join(called) or "(none)")


def test_a_run_judges_studies_as_one_case(tmp_path: Path) -> None:
    """The coordinator takes the secure sums of studies; the test set has a row a study."""
    folder = run(tmp_path, "aggregation=secure", "data.case=study").folder
    assert main(["evaluate", f"run={folder}", "name=own", "quiet=true"]) == 0
    assert main(["evaluate", f"run={folder}", "name=images", "data.case=image", "quiet=true"]) == 0
    cases, images = (
        read_predictions(
            folder / "evaluation" / name / "predictions.csv", TASKS["multilabel"].judge
        )
        for name in ("own", "images")
    )
    asked = [f"runs=[{folder}]", "data.case=image", "quiet=true", "resamples=100"]
    assert main(["compare", *asked, "validation=false", f"output={tmp_path / 'compared'}"]) == 0
    told = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert told["images"] == len(images)
    studies = {
        (patient, (int(file.rpartition("_")[2][0]) + 1) // 2)
        for file, patient in zip(images.files, images.patients, strict=True)
    }
    assert len(cases) == len(studies) < len(images)
    of_image = dict(zip(images.files, images.outputs, strict=True))
    row = next(k for k, file in enumerate(cases.files) if file.replace("_1.", "_2.") in of_image)
    both = [of_image[name] for name in (cases.files[row], cases.files[row].replace("_1.", "_2."))]
    logits = [np.log(p / (1 - p)) for p in both]
    mean = 1 / (1 + np.exp(-np.mean(logits, axis=0)))
    assert cases.outputs[row].tolist() == pytest.approx(mean.tolist(), abs=1e-4)


def _rows(path: Path) -> tuple[list[list[str]], list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream))
    return rows, header


@pytest.mark.parametrize("attack", [["attack", "target=crafted_model"], ["attack", "membership"]])
def test_attacks_are_refused_in_a_sentence(
    runs: dict[str, Path], attack: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They rebuild images of one class each, or ask about them by their class."""
    assert main([*attack, f"run={runs['plain']}"]) == 2
    told = capsys.readouterr().err
    assert "data.task=multilabel has labels that are no class of an image; expected" in told
    assert told.count("\n") == 1


def test_no_map_is_drawn(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"run={runs['plain']}", "saliency=2"]) == 2
    assert "saliency=2 with data.task=multilabel; expected 0" in capsys.readouterr().err
