"""Whole runs of several findings, secure and plain, in one process."""

from __future__ import annotations

import csv
import json
from pathlib import Path

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
    made.run()
    (made.folder / "config.yaml").write_text(to_yaml(made.experiment))
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    words = ("training.class_weights=balanced",)
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_run_id", "_node_id", "_task_id"):
            patch.setattr(TaskIdentity, name, 1)
        return {
            way: run(folder / way, *words, f"aggregation={way}").folder
            for way in ("secure", "plain")
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
    images = next((folder.parent / "cache").glob("synthetic-findings-*"))
    asked = [f"run={folder}", f"data.root={images / made.files[0]}", f"output={tmp_path / 'p'}"]
    assert main(["predict", *asked, "quiet=true"]) == 0
    ((row,), header) = _rows(tmp_path / "p" / "predictions.csv")
    told = dict(zip(header, row, strict=True))
    p = [float(told[f"p_{name}"]) for name in made.names]
    assert p == pytest.approx(made.outputs[0].tolist(), abs=1e-5)
    called = [name for name, one in zip(made.names, p, strict=True) if one >= 0.5]
    assert told["prediction"] == (" | ".join(called) or "(none)")


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
