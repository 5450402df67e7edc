"""The studentised interval of an area: its parts against `delong`, its limits by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from primia_flwr.statistics.auc import area_and_variance, area_statistic
from primia_flwr.statistics.bootstrap_t import (
    STUDENTISED,
    class_area_interval,
    weighted_area_interval,
)
from primia_flwr.statistics.delong import area, covariance, weighted_area
from primia_flwr.statistics.intervals import Strata


def drawn(seed: int, patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Strata]:
    """Return labels, probabilities with ties, patients of 1 to 3 images, and the strata."""
    generator = np.random.default_rng(seed)
    units = np.repeat(np.arange(patients), [1 + k % 3 for k in range(patients)])
    labels = generator.integers(0, 3, len(units))
    p = generator.dirichlet([1, 1, 1], len(units)) + 0.4 * np.eye(3)[labels]
    p = np.round(p / p.sum(axis=1, keepdims=True), 2)
    return labels, p, units, Strata.by_class([f"{u:03d}" for u in units], labels)


def shares_of(labels: np.ndarray) -> np.ndarray:
    return np.asarray(np.bincount(labels, minlength=3) / len(labels))


def test_value_and_variance_of_weights_one_are_delongs() -> None:
    labels, p, units, strata = drawn(1, 60)
    sample = area_and_variance(np.eye(3, dtype=bool)[labels].T, p.T, shares_of(labels), strata)
    value, variance = sample(np.ones((1, 60)))[:, 0]
    expected = weighted_area(labels, p, units)
    assert value == pytest.approx(expected.value)
    assert variance == pytest.approx(covariance([expected], units)[0, 0])
    assert value == pytest.approx(area_statistic(labels, p, 3, strata)(np.ones((1, 60)))[0, 0])


def test_a_weight_is_as_many_patients_of_their_own() -> None:
    labels, p, units, strata = drawn(2, 30)
    weights = np.random.default_rng(3).integers(0, 4, 30)
    sides, shares = np.eye(3, dtype=bool)[labels].T, shares_of(labels)
    value, variance = area_and_variance(sides, p.T, shares, strata)(weights[None].astype(float))
    index, copies = [], list[int]()
    for unit, count in enumerate(weights):
        for _ in range(count):
            rows = np.flatnonzero(units == unit).tolist()
            copies += [len(copies)] * len(rows)
            index += rows
    parts = [area(p[index, k], labels[index] == k, copies) for k in range(3)]
    assert value[0] == pytest.approx(
        sum(s * part.value for s, part in zip(shares, parts, strict=True))
    )
    influence = sum(s * part.influence for s, part in zip(shares, parts, strict=True))
    per_copy = np.bincount(copies, weights=influence)
    assert variance[0] == pytest.approx(float((per_copy**2).sum()))


def test_the_limits_are_the_turned_quantiles_of_the_ratio() -> None:
    # Efron & Tibshirani 1993, eq. 12.22, on asin(sqrt(area)), with loops and the same patients.
    generator = np.random.default_rng(4)
    side = np.repeat([True, False], [12, 15])
    scores = np.round(generator.normal(size=27) + side, 1)
    strata = Strata.by_class([f"{k:02d}" for k in range(27)], side.astype(np.int64))
    found = class_area_interval(scores, side, strata, rng=np.random.default_rng(5), resamples=400)
    whole = area(scores, side)
    error = math.sqrt(covariance([whole])[0, 0])
    ratios, rng = [], np.random.default_rng(6)
    for _ in range(4000):
        rows = np.concatenate([rng.integers(0, 12, 12), rng.integers(12, 27, 15)])
        again = area(scores[rows], side[rows])
        wrong = math.sqrt(covariance([again])[0, 0])
        value = min(max(again.value, 0.5 / 180), 1 - 0.5 / 180)
        slope = 0.5 / math.sqrt(value * (1 - value))
        miss = math.asin(math.sqrt(value)) - math.asin(math.sqrt(whole.value))
        ratios.append(miss / (max(wrong, 1 / 180) * slope))
    reach = error * 0.5 / math.sqrt(whole.value * (1 - whole.value))
    low, high = np.quantile(ratios, [0.025, 0.975])
    middle = math.asin(math.sqrt(whole.value))
    assert found.value == pytest.approx(whole.value)
    assert found.low == pytest.approx(math.sin(middle - high * reach) ** 2, abs=0.03)
    assert found.high == pytest.approx(math.sin(middle - low * reach) ** 2, abs=0.03)
    assert found.method == STUDENTISED


def test_a_large_sample_has_delongs_own_interval() -> None:
    generator = np.random.default_rng(7)
    side = np.repeat([True, False], 600)
    scores = generator.normal(size=1200) + 1.2 * side
    strata = Strata.by_class([f"{k:04d}" for k in range(1200)], side.astype(np.int64))
    found = class_area_interval(scores, side, strata, rng=generator)
    whole = area(scores, side)
    error = math.sqrt(covariance([whole])[0, 0])
    assert found.low == pytest.approx(whole.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(whole.value + 1.96 * error, abs=0.15 * error)


def test_an_area_without_variance_or_a_second_class_has_no_interval() -> None:
    strata = Strata.by_class(list("abcd"), np.array([0, 0, 1, 1]))
    side, rng = np.array([False, False, True, True]), np.random.default_rng(8)
    perfect = class_area_interval(np.array([1.0, 2, 3, 4]), side, strata, rng=rng)
    assert (perfect.value, perfect.low) == (1, None)
    assert "without variance" in perfect.note
    equal = class_area_interval(np.ones(4), side, strata, rng=rng)
    assert (equal.value, equal.low) == (0.5, None)
    alone = class_area_interval(np.arange(4.0), np.ones(4, bool), strata, rng=rng)
    assert (alone.value, alone.note[:8]) == (None, "no image")
    few = Strata.by_class(list("abcd"), np.array([0, 0, 0, 1]))
    one = class_area_interval(np.array([1.0, 2, 4, 3]), np.array([0, 0, 0, 1], bool), few, rng=rng)
    assert one.value == pytest.approx(2 / 3)
    assert one.note.startswith("1 patient")


def test_a_class_without_images_is_left_out_of_the_weighted_area() -> None:
    labels, p, _, strata = drawn(9, 40)
    kept = labels != 2
    part = Strata.by_class([f"{u:03d}" for u in strata.of[kept]], labels[kept])
    found = weighted_area_interval(labels[kept], p[kept], part, rng=np.random.default_rng(1))
    expected = weighted_area(labels[kept], p[kept], strata.of[kept])
    assert found.value == pytest.approx(expected.value)
