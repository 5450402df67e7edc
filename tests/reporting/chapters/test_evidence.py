"""The report's chapters on evidence: figures of the files beside it, or the reason for none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.numbers import BRACKETS, interval
from primia_flwr.reporting.chapters.rounds import site_table
from primia_flwr.reporting.report import write_report
from primia_flwr.runs.cross_site import CrossSite, ModelRow, write_matrix
from primia_flwr.runs.evidence import read_evidence, write_evidence
from primia_flwr.runs.folder import read_run_folder
from primia_flwr.statistics.intervals import Interval
from tests import class_predictions
from tests.reporting.run_folder_maker import cell

JUDGE = class_predictions.CLASSIFICATION.judge
Maker = Callable[..., Path]
# Two classes, one image a patient, four of five right. The confidences .9 .9 .8 .6 .6 fall into
# three bins: gap |1 - .9| of two images, |1 - .8| of one, |.5 - .6| of two.
LABELS = [0, 0, 1, 1, 0]
PROBABILITIES = [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.4, 0.6]]
ECE = (2 * 0.1 + 0.2 + 2 * 0.1) / 5
BRIER = (2 * 0.02 + 0.08 + 0.32 + 0.72) / 5


def predict(path: Path, files: str = "abcde") -> None:
    class_predictions.write(path, list(files), list(files), LABELS, PROBABILITIES, ("no", "yes"))


def test_calibration_and_figures_by_hand(tmp_path: Path) -> None:
    predict(tmp_path / "predictions.csv")
    predict(tmp_path / "predictions-centralised.csv")
    predict(tmp_path / "predictions-local-paris.csv")
    write_evidence(tmp_path, JUDGE, seed=1, resamples=50)
    found = read_evidence(tmp_path, JUDGE)
    assert found is not None
    assert list(found.figures) == ["Federated", "paris local", "Centralised"]
    assert (found.images, found.patients, found.resamples) == (5, 5, 50)
    assert found.figures["Federated"]["accuracy"].value == pytest.approx(0.8)
    assert found.figures["Federated"] == found.figures["Centralised"]
    assert found.parts["no"]["sensitivity"].value == pytest.approx(2 / 3)
    assert found.reliability.ece == pytest.approx(ECE)
    assert found.reliability.brier == pytest.approx(BRIER)


def test_the_same_seed_gives_the_same_file(make_run_folder: Maker, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path)
    write_evidence(folder, JUDGE, seed=1, resamples=50)
    first = (folder / "evidence.json").read_bytes()
    write_evidence(folder, JUDGE, seed=1, resamples=50)
    assert (folder / "evidence.json").read_bytes() == first
    write_evidence(folder, JUDGE, seed=2, resamples=50)
    assert (folder / "evidence.json").read_bytes() != first


def test_no_predictions_no_file_and_other_images_are_refused(tmp_path: Path) -> None:
    write_evidence(tmp_path, JUDGE, seed=1)
    assert list(tmp_path.iterdir()) == []
    predict(tmp_path / "predictions.csv")
    predict(tmp_path / "predictions-centralised.csv", "abcdf")
    with pytest.raises(DataError, match=r"predictions-centralised\.csv: other images"):
        write_evidence(tmp_path, JUDGE, seed=1)
    (tmp_path / "evidence.json").write_text('{"images": 3}')
    with pytest.raises(DataError, match=r"evidence\.json cannot be read"):
        read_evidence(tmp_path, JUDGE)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Interval(0.5, 0.25, 0.75), "0.500 [0.250, 0.750]"),
        (Interval(-0.1, -0.2, 0.0), "\N{MINUS SIGN}0.100 [\N{MINUS SIGN}0.200, 0.000]"),
        (Interval(0.5, note="constant"), "0.500"),
        (Interval(None), "\N{EN DASH}"),
    ],
)
def test_intervals_in_words(found: Interval, text: str) -> None:
    assert interval(found, BRACKETS) == text


def test_the_page_shows_the_intervals_and_how_they_were_found(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    folder = make_run_folder(tmp_path)
    write_evidence(folder, JUDGE, seed=1, resamples=50)
    text = write_report(folder).read_text()
    mcc = json.loads((folder / "evidence.json").read_text())["figures"]["Federated"]["mcc"]
    assert f"{mcc['value']:.3f} [{mcc['low']:.3f}, {mcc['high']:.3f}]" in text
    assert "patient-wise BCa bootstrap" in text
    assert 'aria-label="Reliability diagram.' in text


@pytest.mark.parametrize(
    ("private", "config", "words"),
    [
        (False, "", "train with debug.cross_site=true"),
        (True, "", "secure aggregation hides each site"),
        (False, "privacy: {mode: dp_sgd, epsilon: 1.0}\n", "no validation counts leave a site"),
    ],
)
def test_a_missing_matrix_has_its_reason(
    make_run_folder: Maker, tmp_path: Path, private: bool, config: str, words: str
) -> None:
    folder = make_run_folder(tmp_path, secure_aggregation=private)
    path = folder / "config.yaml"
    path.write_text(path.read_text() + config)
    assert words in write_report(folder).read_text()


def test_the_matrix_names_rounds_and_empty_cells(make_run_folder: Maker, tmp_path: Path) -> None:
    found = cell([[6, 4], [1, 9]])
    rows = (ModelRow("Federated", 3, {"a": found, "b": found}), ModelRow("a", 4, {"a": found}))
    folder = make_run_folder(tmp_path)
    write_matrix(folder, CrossSite(("a", "b"), rows, "classification", 2))
    text = write_report(folder).read_text()
    assert "(a: round 4)" in text
    assert "No answer, or no validation images: a at b." in text
    assert "Heat map of the MCC, model by row. Federated: a 0.524, b 0.524; a: a 0.524." in text


def test_cases_of_an_evaluation_stand_in_the_page_of_a_run_without_its_own(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    from primia_flwr.evaluation.explain.cases import write_cases
    from tests.evaluation.explain.test_saliency import explanation

    folder = make_run_folder(tmp_path)
    assert read_run_folder(folder).explanation is None
    assert "report.saliency=2" in write_report(folder).read_text()
    write_cases(folder / "evaluation" / "clinic" / "saliency", explanation())
    text = write_report(folder).read_text()
    assert "Images of patients." in text
    assert "True class: viral" in text


def test_a_deployment_says_why_no_image_is_shown(make_run_folder: Maker, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, deployment="deployment")
    for name in ("metrics.json", "predictions.csv"):
        (folder / name).unlink()
    assert "the images lie at the sites" in write_report(folder).read_text()


def test_columns_without_figures_are_left_out() -> None:
    rows = [
        {"round": "1", "site": "a", "status": "ok"},
        {"round": "1", "site": "b", "status": "ok"},
    ]
    table = site_table(rows, class_predictions.CLASSIFICATION)
    assert table["headings"] == ["Round", "Site", "Status", "Remarks"]
    assert table["lines"][0] == ["1", "a", "ok", ""]
    rows[1] |= {"val_mcc": "0.5", "stopped_early": "1", "reason": "late"}
    table = site_table(rows, class_predictions.CLASSIFICATION)
    assert table["headings"][3] == "MCC"
    assert [line[3:] for line in table["lines"]] == [
        ["\N{EN DASH}", ""],
        ["0.500", "stopped early; late"],
    ]


def test_a_run_that_sent_no_losses_has_no_empty_curves(
    make_run_folder: Maker, tmp_path: Path
) -> None:
    folder = make_run_folder(tmp_path)
    path = folder / "config.yaml"
    path.write_text(path.read_text() + "privacy: {mode: dp_sgd, epsilon: 1.0}\n")
    (folder / "history.csv").write_text("round,seconds,sites\n1,3.5,3\n")
    text = write_report(folder).read_text()
    assert "no losses and no scores: each would cost privacy" in text
    assert "No round was completed" not in text
    assert not (folder / "plots" / "rounds.svg").exists()
