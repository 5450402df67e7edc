"""DeLong's variance against its definition, written out with loops, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.delong import (
    area,
    area_difference,
    area_interval,
    covariance,
    weighted_area,
)
from primia_flwr.tasks.classes.scores import score

X, Y = np.array([3.0, 5.0, 6.0, 8.0]), np.array([1.0, 3.0, 4.0, 2.0, 6.0])
SCORES, SIDE = np.concatenate([X, Y]), np.repeat([True, False], [4, 5])


def psi(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def by_definition(
    scores: FloatArray, side: FloatArray, patients: FloatArray
) -> tuple[float, float]:
    """Obuchowski 1997, eqs. 2 to 5, with loops; DeLong's where each patient has one image."""
    x, y = scores[side], scores[~side]
    theta = np.mean([[psi(a, b) for b in y] for a in x])
    v10 = {i: np.mean([psi(scores[i], b) for b in y]) for i in np.flatnonzero(side)}
    v01 = {j: np.mean([psi(a, scores[j]) for a in x]) for j in np.flatnonzero(~side)}
    names = np.unique(patients)
    i10, i01 = len(np.unique(patients[side])), len(np.unique(patients[~side]))
    s10 = s01 = s11 = 0.0
    for name in names:
        mine = np.flatnonzero(patients == name)
        a = sum(v10[i] - theta for i in mine if i in v10)
        b = sum(v01[j] - theta for j in mine if j in v01)
        s10, s01, s11 = s10 + a * a, s01 + b * b, s11 + a * b
    m, n = len(x), len(y)
    s10 *= i10 / ((i10 - 1) * m)
    s01 *= i01 / ((i01 - 1) * n)
    s11 *= len(names) / (len(names) - 1)
    return float(theta), float(s10 / m + s01 / n + 2 * s11 / (m * n))


def test_a_case_by_hand() -> None:
    # Negatives below each positive: 3 -> 2.5, 5 -> 4, 6 -> 4.5, 8 -> 5 of 5; sum 16 of 20.
    found = area(SCORES, SIDE)
    assert found.value == pytest.approx(0.8)
    # V10 = .5 .8 .9 1 and V01 = 1 .875 .75 1 .375: variances .14/3 and .26875/4, over 4 and 5.
    expected = 0.14 / 3 / 4 + 0.26875 / 4 / 5
    assert covariance([found])[0, 0] == pytest.approx(expected)


def test_equal_to_the_definition_with_ties() -> None:
    generator = np.random.default_rng(3)
    side = generator.random(80) < 0.4
    scores = np.round(generator.normal(size=80) + side, 1)
    found = area(scores, side)
    theta, variance = by_definition(scores, side, np.arange(80))
    assert found.value == pytest.approx(theta)
    assert covariance([found])[0, 0] == pytest.approx(variance)


def test_equal_to_obuchowski_where_patients_repeat() -> None:
    generator = np.random.default_rng(4)
    patients = np.repeat(np.arange(30), [1, 2, 3] * 10)
    side = (patients % 3 == 0) | (patients % 7 == 0)
    scores = generator.normal(size=len(side)) + side + generator.normal(size=30)[patients]
    found = area(scores, side, patients)
    theta, variance = by_definition(scores, side, patients)
    assert found.value == pytest.approx(theta)
    assert covariance([found], patients)[0, 0] == pytest.approx(variance)


def test_a_patient_on_both_sides_differs_from_obuchowski_by_the_factor_of_the_cross_term() -> None:
    generator = np.random.default_rng(5)
    patients = np.repeat(np.arange(40), 2)
    side = generator.random(80) < 0.5
    scores = generator.normal(size=80) + side + generator.normal(size=40)[patients]
    found = covariance([area(scores, side, patients)], patients)[0, 0]
    assert found == pytest.approx(by_definition(scores, side, patients)[1], rel=0.02)


def test_copies_of_images_leave_the_interval_by_patient_unchanged() -> None:
    once = area(SCORES, SIDE)
    copied = np.repeat(np.arange(9), 4)
    several = area(SCORES[copied], SIDE[copied], copied)
    assert covariance([several], copied)[0, 0] == pytest.approx(covariance([once])[0, 0])
    naive = covariance([area(SCORES[copied], SIDE[copied])])[0, 0]
    assert naive < covariance([once])[0, 0] / 3, "as if independent it would look narrower"


def test_the_interval_on_the_logit_scale_by_hand() -> None:
    found = area(SCORES, SIDE)
    error = math.sqrt(0.14 / 12 + 0.26875 / 20)
    plain = area_interval(found, on_logit=False)
    assert plain.low == pytest.approx(0.8 - 1.959964 * error)
    assert plain.high == 1, "cut off"
    middle, reach = math.log(0.8 / 0.2), 1.959964 * error / 0.16
    logit = area_interval(found)
    assert logit.low == pytest.approx(1 / (1 + math.exp(reach - middle)))
    assert logit.high == pytest.approx(1 / (1 + math.exp(-reach - middle)))


def test_a_perfect_area_has_no_interval() -> None:
    found = area_interval(area([1, 2, 3, 4], [False, False, True, True]))
    assert (found.value, found.low, found.high) == (1, None, None)
    assert "no variance" in found.note


def test_two_models_on_the_same_images_by_definition() -> None:
    generator = np.random.default_rng(6)
    side = generator.random(60) < 0.5
    common = generator.normal(size=60)
    first, second = common + 1.5 * side, common + generator.normal(size=60) + 0.7 * side
    a, b = area(first, side), area(second, side)
    difference = area_difference(a, b)
    parts = []
    for scores in (first, second):
        x, y = scores[side], scores[~side]
        grid = np.array([[psi(i, j) for j in y] for i in x])
        parts.append((grid.mean(axis=1), grid.mean(axis=0)))
    variance = np.var(parts[0][0] - parts[1][0], ddof=1) / side.sum()
    variance += np.var(parts[0][1] - parts[1][1], ddof=1) / (~side).sum()
    assert difference.value == pytest.approx(a.value - b.value)
    reach = 2.000995 * math.sqrt(variance)  # Student's quantile of 59 degrees
    assert difference.high == pytest.approx(a.value - b.value + reach)


def test_the_same_scores_have_no_interval_of_their_difference() -> None:
    found = area(SCORES, SIDE)
    difference = area_difference(found, found)
    assert (difference.value, difference.low) == (0, None)


def test_the_weighted_area_is_the_one_of_the_report() -> None:
    generator = np.random.default_rng(8)
    labels = generator.choice(3, 70).astype(np.int64)
    p = generator.dirichlet([1, 1, 1], 70)
    assert weighted_area(labels, p).value == pytest.approx(
        score(labels, p, ("a", "b", "c")).roc_auc
    )


def test_the_weighted_area_of_two_classes_is_the_area_of_either() -> None:
    labels = SIDE.astype(np.int64)
    p = np.stack([1 - SCORES / 10, SCORES / 10], axis=1)
    whole, one = weighted_area(labels, p), area(SCORES, SIDE)
    assert whole.value == pytest.approx(one.value)
    assert covariance([whole])[0, 0] == pytest.approx(covariance([one])[0, 0])


@pytest.mark.parametrize("patients", [None, [1, 1, 2, 3]])
def test_one_patient_on_a_side_is_refused(patients: list[int] | None) -> None:
    side = [True, False, False, False] if patients is None else [True, True, False, False]
    with pytest.raises(DataError, match=r"1 patient\(s\) of the class"):
        area([1, 2, 3, 4], side, patients)
