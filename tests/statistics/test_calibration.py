"""Calibration and operating points on four to six images that one can reckon by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from primia_flwr.statistics.calibration import (
    calibration,
    fit_temperature,
    with_temperature,
)
from primia_flwr.statistics.thresholds import threshold_for
from primia_flwr.tasks.classes.readers.operating_points import Question, questions

CLASSES = ("bacterial", "normal", "viral")


def test_figures_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.25, 0.75], [0.3, 0.7]])
    labels = np.array([0, 1, 1, 1])
    found = calibration(labels, p, bins=2)
    # All four confidences (.9 .8 .75 .7, mean .7875) are in (0.5, 1], three of four are right.
    assert found.ece == pytest.approx(0.0375)
    assert found.brier == pytest.approx(2 * (0.01 + 0.64 + 0.0625 + 0.09) / 4)
    assert found.nll == pytest.approx(-math.log(0.9 * 0.2 * 0.75 * 0.7) / 4)
    empty, full = found.bins
    assert (empty.n, empty.accuracy) == (0, None)
    assert (full.n, full.accuracy) == (4, 0.75)
    assert full.confidence == pytest.approx(0.7875)


def test_ece_weighs_bins_by_their_images() -> None:
    p = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [1.0, 0.0]])
    found = calibration(np.array([0, 0, 0, 1]), p)
    # Bin (0.5, 0.6]: 3 images, gap 0.4; bin (0.9, 1]: 1 image, gap 1.
    assert found.ece == pytest.approx((3 * 0.4 + 1) / 4)
    assert [b.n for b in found.bins if b.n] == [3, 1]
    assert found.bins[5].n == 3, "0.6 belongs to the bin that ends with it"


def test_the_temperature_of_probabilities_that_say_too_much() -> None:
    # Odds of 9 where 3 of 4 are right: log 9 / T = log 3, so T = 2.
    p = np.tile([0.9, 0.1], (8, 1))
    labels = np.array([0, 0, 0, 1] * 2)
    temperature = fit_temperature(labels, p)
    assert temperature == pytest.approx(2, abs=1e-4)
    scaled = with_temperature(p, temperature)
    assert scaled[0] == pytest.approx([0.75, 0.25], abs=1e-4)
    assert calibration(labels, scaled).ece == pytest.approx(0, abs=1e-4)


def test_a_temperature_of_one_changes_nothing_and_none_changes_the_class() -> None:
    p = np.random.default_rng(1).dirichlet([1, 1, 1], 50)
    np.testing.assert_allclose(with_temperature(p, 1.0), p)
    assert (with_temperature(p, 7.0).argmax(axis=1) == p.argmax(axis=1)).all()
    assert with_temperature(np.array([[1.0, 0.0]]), 2.0).sum() == pytest.approx(1), "no log of 0"


@pytest.mark.parametrize(
    ("demanded", "threshold"), [(1.0, 0.2), (0.75, 0.4), (0.6, 0.4), (0.5, 0.6), (0.01, 0.9)]
)
def test_the_largest_threshold_with_the_demanded_sensitivity(
    demanded: float, threshold: float
) -> None:
    truth = np.array([1, 1, 1, 1, 0, 0])
    scores = np.array([0.9, 0.6, 0.4, 0.2, 0.95, 0.1])
    assert threshold_for(truth, scores, demanded) == threshold
    assert (scores[truth == 1] >= threshold).mean() >= demanded


def test_there_is_no_threshold_without_a_positive_image() -> None:
    assert threshold_for(np.zeros(3, np.int64), np.array([0.1, 0.2, 0.3]), 0.9) is None


def test_questions_begin_with_any_finding() -> None:
    found = questions(CLASSES, "normal")
    assert [q.name for q in found] == ["any finding (not normal)", "bacterial", "viral"]
    assert found[0].truth(np.array([0, 1, 2])).tolist() == [1, 0, 1]
    assert found[0].score(np.array([[0.2, 0.3, 0.5]])) == pytest.approx([0.7])
    assert [q.name for q in questions(CLASSES, "healthy")] == list(CLASSES)
    assert questions(("normal", "ill"), "normal") == [Question("ill", (False, True))]
