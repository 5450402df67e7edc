"""Intervals on data small enough to think through."""

from __future__ import annotations

import numpy as np
import pytest

from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.intervals import Strata, bootstrap_limits, bootstrapped, wilson


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
