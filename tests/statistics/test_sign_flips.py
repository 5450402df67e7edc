"""Flipped signs against all that there are, against scipy, and where patients are few or many."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, permutation_test

from primia_flwr.statistics.by_patient import effective_number
from primia_flwr.statistics.sign_flips import sign_flips


def by_listing(sums: list[float]) -> float:
    observed = abs(sum(sums))
    drawn = [abs(sum(s * d for s, d in zip(signs, sums, strict=True)))
             for signs in product((-1, 1), repeat=len(sums))]  # fmt: skip
    beyond = np.mean([one > observed + 1e-9 for one in drawn])
    return float(beyond + np.mean([abs(one - observed) <= 1e-9 for one in drawn]) / 2)


@pytest.mark.parametrize(
    "sums", [[3, -1, 2, 2, 1], [5, 1, 1, 1, 1, -1], [0.3, 0.7, -0.1, 1.1], [8, -8, 1], [0.25]]
)
def test_all_signs(sums: list[float]) -> None:
    assert sign_flips(sums).p == pytest.approx(by_listing(sums))
    assert sign_flips([-one for one in sums]).p == pytest.approx(by_listing(sums))
    assert sign_flips([*sums, 0, 0]).p == pytest.approx(by_listing(sums)), "no difference, no part"


def test_many_whole_numbers_and_others_agree() -> None:
    sums = np.random.default_rng(2).integers(-4, 6, 60).astype(float)
    exact = sign_flips(sums).p
    assert sign_flips(sums + 1e-7).p == pytest.approx(exact, abs=0.01), "signs drawn"
    scipy = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=20000, rng=1)
    assert scipy.pvalue == pytest.approx(exact, abs=0.01)


def test_many_patients_are_as_of_a_normal_sum() -> None:
    sums = np.random.default_rng(3).normal(size=1000) + 0.05
    z = abs(sums.sum()) / np.sqrt((sums**2).sum())
    assert sign_flips(sums).p == pytest.approx(2 * norm.sf(z))


def test_one_large_among_many_small_ones() -> None:
    small = np.random.default_rng(4).normal(size=2000) / 100
    sums = np.append(small - small.mean() + 0.02 / np.sqrt(2000), 50.0)
    # The large one's sign is that of the sum, so one side of the others' normal sum is left.
    z = (sums.sum() - 50) / np.sqrt((sums[:-1] ** 2).sum())
    assert sign_flips(sums).p == pytest.approx(norm.sf(z), abs=0.01)


@pytest.mark.parametrize("patients", [1, 2, 4, 5, 12])
def test_the_smallest_p_of_few_patients(patients: int) -> None:
    found = sign_flips(np.ones(patients))
    assert found.p == pytest.approx(0.5**patients)
    assert found.smallest_p == 0.5**patients
    assert (found.smallest_p < 0.05) == (patients >= 5)


def test_no_difference_and_no_patient() -> None:
    for nothing in ([], [0.0, 0.0]):
        assert sign_flips(nothing).p == 1
    assert sign_flips([1e-18, 1.0]).differing_patients == 1, "rounding is no difference"


def test_a_million_images_take_no_time() -> None:
    found = sign_flips(np.tile([1.0, -1.0, 3.0, -3.0], 100_000))
    assert (found.p, found.differing_patients) == (pytest.approx(1), 400_000)


def test_effective_number() -> None:
    assert effective_number([4, 4, 4, 4]) == pytest.approx(4)
    assert effective_number([1000, 1, 1, 1]) == pytest.approx(1, abs=1e-4)
