"""The exact test of two areas against swapping itself, and what it must not depend on."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from primia_flwr.statistics.delong import area
from primia_flwr.statistics.swapped_areas import swap_test, swapped_sums

PATIENTS = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4, 5])
POSITIVE = np.array([1, 1, 1, 0, 0, 1, 0, 0, 1, 0], bool)


def columns(scores: np.ndarray) -> np.ndarray:
    return np.stack([-scores, scores], axis=1)


def test_the_parts_are_those_of_swapping() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, (2, 10)).astype(float)
    sums = swapped_sums(POSITIVE, first, second, PATIENTS)
    for signs in product((False, True), repeat=6):
        swapped = np.array(signs)[PATIENTS]
        one, other = np.where(swapped, second, first), np.where(swapped, first, second)
        expected = area(one, POSITIVE).value - area(other, POSITIVE).value
        assert sums @ np.where(signs, -1, 1) == pytest.approx(expected)


def test_scales_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), [1, 2, 3, 4] * 10)
    labels = (patients % 2).astype(np.int64)
    first, second = rng.normal(size=(2, 100)) + 0.8 * labels
    plain = swap_test(labels, columns(first), columns(second), patients)
    other = swap_test(labels, columns(first), columns(100 + np.exp(second)), patients)
    assert plain.p == pytest.approx(other.p)
    assert 0 < plain.p < 1


def test_the_same_scores_do_not_differ() -> None:
    scores = columns(np.random.default_rng(2).normal(size=10))
    found = swap_test(POSITIVE.astype(np.int64), scores, scores, PATIENTS)
    assert (found.p, found.differing_patients) == (1, 0)


def test_a_clear_difference_is_found_and_copies_add_nothing() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(60) % 2
    first, second = 3.0 * labels + rng.normal(size=60), rng.normal(size=60)
    once = swap_test(labels, columns(first), columns(second), np.arange(60))
    assert once.p < 0.001
    copied = np.repeat(np.arange(60), 5)
    several = swap_test(labels[copied], columns(first[copied]), columns(second[copied]), copied)
    assert several.p == pytest.approx(once.p, rel=0.05, abs=1e-4)


def test_the_difference_is_measured_by_the_error_that_is_known() -> None:
    """Eighty patients: p is that of a normal difference, of whichever error."""
    rng = np.random.default_rng(5)
    labels = np.arange(80) % 2
    first, second = 1.2 * labels + rng.normal(size=80), 0.4 * labels + rng.normal(size=80)
    scores = columns(first), columns(second)
    plain = swap_test(labels, *scores, np.arange(80)).p
    z = norm.isf(plain / 2)
    smaller = swap_test(labels, *scores, np.arange(80), variance=1e-9).p
    assert smaller == pytest.approx(2 * norm.sf(1.25 * z)), "by a quarter at most"
    ps = [swap_test(labels, *scores, np.arange(80), variance=v).p for v in (0.04, 0.16)]
    assert norm.isf(ps[0] / 2) == pytest.approx(2 * norm.isf(ps[1] / 2)), "half, at twice the error"
    assert plain < ps[0] < ps[1]
    few = np.arange(80) % 5
    assert swap_test(few % 2, *scores, few, variance=0.04) == swap_test(few % 2, *scores, few)


def test_a_patient_with_nearly_all_images_does_not_decide() -> None:
    """Its scores are swapped together: with five others p is at least 2^-6."""
    patients = np.minimum(np.arange(100), 5)
    labels = (np.arange(100) % 2).astype(np.int64)
    first, second = columns(labels + 0.0), columns(np.zeros(100))
    found = swap_test(labels, first, second, patients)
    assert found.differing_patients <= 6
    assert found.p >= 2**-6


def test_three_classes_of_which_one_does_not_occur() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 2], 15)
    first, second = rng.dirichlet([1, 1, 1], 30), rng.dirichlet([1, 1, 1], 30)
    assert 0 < swap_test(labels, first, second, np.arange(30)).p <= 1
