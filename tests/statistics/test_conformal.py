"""Sets of classes: thresholds by hand, and the coverage that was asked for."""

import numpy as np
import pytest

from primia_flwr.statistics.conformal import (
    SetFigures,
    figures_by_class,
    prediction_sets,
    set_thresholds,
    smallest_patients,
)

# Of class 0 five patients, of class 1 four; ten bins.
COUNTS = np.array([[2, 2, 0, 0, 1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0, 1, 1]], np.int64)


def test_the_threshold_is_the_bin_of_the_smallest_score_that_covers_enough() -> None:
    # 9 patients: rank ceil(10 * 0.5) = 5 of the scores in bins 0 0 1 1 1 2 4 8 9: bin 1
    assert set_thresholds(COUNTS, coverage=0.5, by_class=False).tolist() == [1, 1]
    # rank 6: bin 2; rank 9: the last; rank ceil(10 * 0.91) = 10 of 9: every class
    assert set_thresholds(COUNTS, coverage=0.6, by_class=False).tolist() == [2, 2]
    assert set_thresholds(COUNTS, coverage=0.8, by_class=False).tolist() == [8, 8]
    assert set_thresholds(COUNTS, coverage=0.91, by_class=False).tolist() == [9, 9]


def test_each_class_may_have_a_threshold_from_its_own_patients() -> None:
    # class 0: rank ceil(6 * 0.6) = 4 of 0 0 1 1 4; class 1: rank ceil(5 * 0.6) = 3 of 1 2 8 9
    assert set_thresholds(COUNTS, coverage=0.6, by_class=True).tolist() == [1, 8]
    # 0.9 needs nine patients of a class
    assert set_thresholds(COUNTS, coverage=0.9, by_class=True).tolist() == [9, 9]


@pytest.mark.parametrize(
    ("coverage", "patients"), [(0.9, 9), (0.95, 19), (0.5, 1), (0.99, 99), (0.8, 4)]
)
def test_how_many_patients_a_coverage_needs(coverage: float, patients: int) -> None:
    assert smallest_patients(coverage) == patients
    row = np.zeros((1, 4), np.int64)
    row[0, 0] = patients
    assert set_thresholds(row, coverage=coverage, by_class=False).tolist() == [0]
    row[0, 0] -= 1
    assert set_thresholds(row, coverage=coverage, by_class=False).tolist() == [3]


def test_a_set_has_every_class_whose_score_lies_in_a_bin_up_to_the_threshold() -> None:
    probabilities = np.array([[0.8, 0.2], [0.79, 0.21], [1.0, 0.0], [0.5, 0.5]])
    sets = prediction_sets(probabilities, np.array([1, 7]), bins=10)
    # class 0 up to a score of 0.2, class 1 up to 0.8
    assert sets.tolist() == [[True, True], [False, True], [True, False], [False, True]]


def test_figures_of_sets_by_hand() -> None:
    sets = np.array([[True, False], [True, True], [False, False], [False, True]])
    labels, patients = np.array([0, 0, 1, 0]), ["a", "a", "b", "c"]
    found = SetFigures.of(sets, labels, patients)
    assert (found.images, found.patients, found.coverage) == (4, 3, 0.5)
    assert (found.mean_size, found.single, found.empty) == (1.0, 0.5, 0.25)
    assert 0 < found.low < 0.5 < found.high < 1
    by_class = figures_by_class(sets, labels, patients, ["x", "y", "z"])
    assert by_class["x"] is not None
    assert by_class["x"].coverage == pytest.approx(2 / 3)
    assert by_class["y"] is not None
    assert by_class["y"].coverage == 0.0
    assert by_class["z"] is None


@pytest.mark.parametrize("by_class", [False, True])
def test_new_patients_are_covered_as_often_as_was_asked(by_class: bool) -> None:
    """Mean over draws of 60 calibration patients a class: within what 400 draws can be off."""
    rng, bins, asked, held = np.random.default_rng(1), 200, 0.9, []

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 3, count)
        logits = rng.normal(0, 1, (count, 3)) + 1.2 * np.eye(3)[labels] * (1 + labels[:, None])
        odds = np.exp(logits)
        return labels, odds / odds.sum(axis=1, keepdims=True)

    for _ in range(400):
        labels, probabilities = draw(180)
        scores = 1 - probabilities[np.arange(180), labels]
        counts = np.zeros((3, bins), np.int64)
        np.add.at(counts, (labels, np.ceil(scores * bins).astype(int) - 1), 1)
        limit = set_thresholds(counts, coverage=asked, by_class=by_class)
        labels, probabilities = draw(200)
        sets = prediction_sets(probabilities, limit, bins=bins)
        held.append(sets[np.arange(200), labels].mean())
    assert asked - 0.003 < np.mean(held) < asked + 0.02
