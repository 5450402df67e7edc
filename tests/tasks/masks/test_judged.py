"""Evidence, predictions.csv and comparison of masks, with figures by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from primia_flwr.config.rows import TASKS
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.evaluation.predictions import read_predictions, write_predictions
from primia_flwr.reporting.compare_page import write_comparison
from primia_flwr.tasks.judge import Settings
from primia_flwr.tasks.masks.evidence import Judged, mask_statistic, strata_of
from primia_flwr.tasks.masks.plots import single_cases
from primia_flwr.tasks.masks.scores import FIGURES, score_masks
from primia_flwr.tasks.predictions import MODEL, Predictions, Reading

JUDGE = TASKS["segmentation"].judge
NAMES = ("background", "lung", "cloud")
PATIENTS = 8


def made(shift: int = 0, images: int = 2 * PATIENTS) -> Predictions:
    """Squares of 4 x 4, called `shift` pixels to the right; the odd images have a cloud, too."""
    labels = np.zeros((images, 16, 16), np.uint8)
    labels[:, 2:6, 2:6] = 1
    labels[1::2, 9:13, 2:6] = 2
    files = tuple(f"{k:03d}.png" for k in range(images))
    patients = tuple(f"p{k // 2}" for k in range(images))
    return Predictions(files, patients, labels, np.roll(labels, shift, axis=2), NAMES)


def readings() -> list[Reading]:
    return [Reading(name, MODEL, f"/{name}", made(shift)) for name, shift in (("a", 0), ("b", 1))]


def test_the_bootstrap_of_everybody_once_is_the_score() -> None:
    one = made(1)
    scores, strata = score_masks(one.labels, one.outputs, NAMES), strata_of(one)
    rows = mask_statistic(Judged.of(one), strata)(np.ones((1, strata.size)))[:, 0].reshape(4, 3)
    for row, figure in zip(rows, FIGURES, strict=True):
        per_class = [getattr(of, figure) for of in scores.per_class.values()]
        assert row.tolist() == pytest.approx([getattr(scores, figure), *per_class])
    assert scores.dice == pytest.approx(12 / 16)
    assert scores.iou == pytest.approx(12 / 20)
    assert scores.hd95 == 1


def test_a_patient_twice_counts_twice() -> None:
    one = made()
    one.outputs[0] = 0  # the lung of the first patient's first image is missed: Dice 0
    strata = strata_of(one)
    weights = np.ones((2, PATIENTS))
    weights[1, 0] = 3
    lung = mask_statistic(Judged.of(one), strata)(weights)[1]
    assert lung.tolist() == pytest.approx([15 / 16, 17 / 20])


def test_evidence_goes_through_its_file() -> None:
    found = JUDGE.evidence({"Federated": made(1), "Centralised": made()}, seed=1, resamples=100)
    assert found["figures"]["Centralised"]["dice"]["value"] == 1
    about = {"images": 16, "patients": PATIENTS, "resamples": 100}
    evidence = JUDGE.read_evidence({**about, **found})
    assert evidence.parts["cloud"]["dice"].value == pytest.approx(0.75)
    assert evidence.figures["Federated"]["hd95"].value == 1
    assert len(evidence.intervals()) == 2 * 3 + 2 * 4


def test_masks_go_through_predictions_csv(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, made(1), JUDGE)
    read = read_predictions(path, JUDGE)
    assert read.names == NAMES
    assert read.outputs.dtype == read.labels.dtype == np.uint8
    assert np.array_equal(read.outputs, made(1).outputs)
    assert np.array_equal(read.labels, made(1).labels)
    header, first, *_ = path.read_text().splitlines()
    assert header.endswith("mask,prediction,dice_background,dice_lung,dice_cloud")
    assert first.endswith(",0.75,")  # no cloud, and none called


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("16x16:0*34", "16x16:0*35", "a mask of 257 pixels; expected 16 x 16"),
        ("16x16:0*34", "16x16:3*34", "classes up to 2"),
        ("16x16:0*34", "8x8:0*34", "a mask of 256 pixels; expected 8 x 8"),
        ("mask,prediction", "mask,called", "expected file,patient,mask,prediction"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, made(), JUDGE)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        read_predictions(path, JUDGE)


def test_two_models_by_hand(tmp_path: Path) -> None:
    groups = {"site": {f"{k:03d}.png": "xy"[k // 8] for k in range(16)}}
    found = JUDGE.compare(
        readings(), Settings(resamples=100), validation={}, groups=groups, experts=None
    )
    (pair,) = found.pairs
    assert pair.dice.value == pytest.approx(0.25)
    # All 8 patients differ by the same: the mid-p of 2 of 256 ways is half of their chance.
    assert pair.test.p == pytest.approx(1 / 256)
    assert pair.p_holm == pair.test.p
    assert found.summary()["answer"].startswith("Two models differ on 16 images of 8 patients")
    sheets = {sheet.name: sheet for sheet in found.sheets()}
    assert [row[:4] for row in sheets["subgroups"].rows] == [
        ("site", "x", "a", 8), ("site", "x", "b", 8), ("site", "y", "a", 8), ("site", "y", "b", 8),
    ]  # fmt: skip
    page = write_comparison(tmp_path / "out", found, {"title": "t", "synthetic": True, "data": ""})
    assert "Two models differ" in page.read_text()
    assert (tmp_path / "out" / "differences.csv").is_file()


def test_equal_models_are_not_told_apart() -> None:
    same = [Reading(name, MODEL, "", made(1)) for name in "ab"]
    found = JUDGE.compare(same, Settings(resamples=100), validation={}, groups={}, experts=None)
    assert found.pairs[0].p_holm == 1
    assert found.answer.startswith("No model is shown to be better")


def test_readers_who_name_classes_draw_no_masks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"experts=.* expected none"):
        JUDGE.compare(readings(), Settings(), validation={}, groups={}, experts=tmp_path / "x.csv")


def test_the_worst_the_middle_and_the_best_are_drawn() -> None:
    one = made(0)
    one.outputs[4] = 0  # nothing is called: Dice 0
    one.outputs[7] = np.roll(one.labels[7], 2, axis=1)  # half of both: Dice 1/2
    plot = single_cases(one)
    assert "worst: line 5 0.00, line 8 0.50, line 1 1.00" in plot.alt
    assert "5: Dice 0.00" in plot.svg
    lines = [
        plot.name for plot in JUDGE.plots(JUDGE.score(one.labels, one.outputs, NAMES), one, None)
    ]
    assert lines == ["dice", "cases"]
