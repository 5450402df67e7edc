"""The bootstrap of called classes, on data small enough to think through."""

from __future__ import annotations

import numpy as np
import pytest

from primia_flwr.statistics.auc import area_statistic
from primia_flwr.statistics.intervals import Strata, bootstrap_limits
from primia_flwr.tasks.classes.bootstrap import confusion_figures, confusion_statistic
from primia_flwr.tasks.classes.scores import score

CLASSES = ("a", "b", "c")


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


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
