"""Intervals on data small enough to think through."""

from __future__ import annotations

import numpy as np
import pytest

from primia_flwr.evaluation.readers.metrics import bootstrapped
from primia_flwr.evaluation.statistics.auc import area_statistic
from primia_flwr.evaluation.statistics.bootstrap_metrics import (
    confusion_figures,
    confusion_statistic,
)
from primia_flwr.evaluation.statistics.intervals import Strata, bootstrap_limits, wilson
from primia_flwr.evaluation.statistics.metrics import FloatArray, score

CLASSES = ("a", "b", "c")


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_wilson_is_the_published_worked_example() -> None:
    # Newcombe 1998, Table I: 81 of 263 and 15 of 148, score method without correction.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_a_patient_is_drawn_with_all_images_and_within_the_class_of_most_of_them() -> None:
    patients = ["p1", "p1", "p2", "p3", "p3", "p3", "p4"]
    strata = Strata.by_class(patients, np.array([0, 0, 0, 1, 1, 0, 1]))
    assert strata.size == 4
    assert strata.of.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert [group.tolist() for group in strata.groups] == [[0, 1], [2, 3]]
    seen: list[FloatArray] = []

    def statistic(weights: FloatArray) -> FloatArray:
        seen.append(weights)
        return weights.sum(axis=1)[None]

    bootstrap_limits(statistic, strata, rng=rng(), resamples=100, method="percentile")
    drawn = np.concatenate(seen)
    assert (drawn[:, :2].sum(axis=1) == 2).all(), "two patients of class 0 in every sample"
    assert (drawn[:, 2:].sum(axis=1) == 2).all()


def test_the_only_patient_of_a_class_is_in_every_sample() -> None:
    strata = Strata.by_class(["p1", "p2", "p3"], np.array([0, 0, 1]))
    seen: list[FloatArray] = []

    def statistic(weights: FloatArray) -> FloatArray:
        seen.append(weights)
        return weights[:, :1].T

    bootstrap_limits(statistic, strata, rng=rng(), resamples=100, method="percentile")
    assert (np.concatenate(seen)[:, 2] == 1).all()


def test_without_two_patients_of_a_class_there_is_no_interval() -> None:
    strata = Strata.by_class(["p1", "p2"], np.array([0, 1]))
    value, low, high = bootstrap_limits(lambda w: w[:, :1].T, strata, rng=rng())
    assert value.tolist() == [1]
    assert np.isnan([low[0], high[0]]).all()


def test_repeated_images_do_not_narrow_the_interval() -> None:
    """Ten copies of each image tell nothing new: by patient, the interval stays the same."""
    generator = rng()
    labels = np.repeat([0, 1], 30)
    called = np.where(generator.random(60) < 0.8, labels, 1 - labels)
    limits = []
    for copies in (1, 10):
        patients = [str(p) for p in np.repeat(np.arange(60), copies)]
        y, x = np.repeat(labels, copies), np.repeat(called, copies)
        strata = Strata.by_class(patients, y)
        statistic = confusion_statistic(y, x, 2, strata)
        limits.append(np.stack(bootstrap_limits(statistic, strata, rng=rng(), resamples=400)))
    np.testing.assert_allclose(limits[0], limits[1])


def test_percentile_limits_are_quantiles_of_the_binomial() -> None:
    # 100 patients of one class, 80 right: the resampled count is Binomial(100, 0.8), whose
    # quantiles at 2.5 % and 97.5 % are 72 and 87.
    labels, called = np.zeros(100, np.int64), np.repeat([0, 1], [80, 20]).astype(np.int64)
    strata = Strata.by_class([str(k) for k in range(100)], labels)
    statistic = confusion_statistic(labels, called, 2, strata)
    value, low, high = bootstrap_limits(
        statistic, strata, rng=rng(), resamples=20_000, method="percentile"
    )
    assert value[0] == pytest.approx(0.8)
    assert (low[0], high[0]) == pytest.approx((0.72, 0.87), abs=0.0101)


def test_the_figures_of_weights_one_are_those_of_the_report() -> None:
    generator = rng()
    labels = generator.choice(3, 90, p=[0.2, 0.5, 0.3]).astype(np.int64)
    p = generator.dirichlet([1, 1, 1], 90) * 0.5 + 0.5 * np.eye(3)[labels] * generator.random(
        (90, 1)
    )
    p = np.round(p / p.sum(axis=1, keepdims=True), 2)  # with ties
    p[:, 2] = 1 - p[:, 0] - p[:, 1]
    p = np.clip(p, 0, 1)
    strata = Strata.by_class([str(k // 2) for k in range(90)], labels)
    expected = score(labels, p, CLASSES)
    figures = confusion_statistic(labels, p.argmax(axis=1), 3, strata)(np.ones((1, 45)))[:, 0]
    assert figures[0] == pytest.approx(expected.accuracy)
    assert figures[1] == pytest.approx(expected.mcc)
    rates = [s.sensitivity for s in expected.per_class.values()]
    rates += [s.specificity for s in expected.per_class.values()]
    assert figures[2:] == pytest.approx(rates)
    areas = area_statistic(labels, p, 3, strata)(np.ones((1, 45)))
    assert areas[0, 0] == pytest.approx(expected.roc_auc)


def test_weights_are_copies_of_the_images() -> None:
    labels = np.array([0, 0, 1, 1, 2], np.int64)
    p = np.array([[5, 3, 2], [3, 4, 3], [1, 6, 3], [4, 4, 2], [2, 2, 6]]) / 10
    strata = Strata.by_class([str(k) for k in range(5)], labels)
    weights = np.array([[2.0, 1, 0, 3, 1]])
    copied = np.repeat(np.arange(5), [2, 1, 0, 3, 1])
    expected = score(labels[copied], p[copied], CLASSES)
    found = confusion_statistic(labels, p.argmax(axis=1), 3, strata)(weights)[:, 0]
    assert found[:2] == pytest.approx([expected.accuracy, expected.mcc])
    areas = area_statistic(labels, p, 3, strata)(weights)
    assert areas[0, 0] == pytest.approx(expected.roc_auc)


def test_undefined_figures_are_nan_and_the_mcc_of_one_class_is_zero() -> None:
    figures = confusion_figures(np.array([[[4.0, 1.0], [0.0, 0.0]]]))[:, 0]
    assert figures[0] == pytest.approx(0.8)
    assert figures[1] == 0
    assert figures[2] == pytest.approx(0.8), "sensitivity of the first class"
    assert np.isnan(figures[3]), "no image of the second class"
    assert np.isnan(figures[4]), "no image but of the first class"


def test_a_rate_of_one_has_wilsons_interval_and_a_coefficient_of_one_none() -> None:
    nothing = np.array([1.0, np.nan, np.nan])
    rate = bootstrapped(nothing, patients=10, rate=True)
    # Wilson's lower limit of n of n is n / (n + z^2): 10 / (10 + 3.8415).
    assert rate.low == pytest.approx(10 / 13.8415, abs=1e-4)
    assert (rate.high, rate.method) == (pytest.approx(1), "Wilson")
    coefficient = bootstrapped(nothing, patients=10, rate=False)
    assert (coefficient.value, coefficient.low) == (1, None)
    assert "do not vary" in coefficient.note
    missing = bootstrapped(np.full(3, np.nan), patients=0, rate=True, undefined="no image")
    assert (missing.value, missing.note) == (None, "no image")
