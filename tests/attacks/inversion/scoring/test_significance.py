"""Tests between arms, against values that can be worked out by hand."""

from __future__ import annotations

import pytest

from primia_flwr.attacks.inversion.scoring.significance import (
    against_control,
    against_strangers,
    anova,
    hedges_g,
)
from primia_flwr.errors import DataError


def test_anova_by_hand() -> None:
    # means 2, 3, 7; grand mean 4; between 3 (4 + 1 + 9) = 42, within 2 + 2 + 2 = 6
    found = anova({"a": [1, 2, 3], "b": [2, 3, 4], "c": [6, 7, 8]})
    assert (found.between, found.within) == (2, 6)
    assert found.f == pytest.approx(21.0)
    assert found.eta_squared == pytest.approx(42 / 48)
    assert found.p_value == pytest.approx(0.001953125)  # (1 + 2 F / 6)^-3 with 2 and 6 degrees


def test_welch_by_hand() -> None:
    # means 5 and 3, variances 1 and 4, n = 4 each: t = 2 / sqrt(1/4 + 4/4),
    # degrees (1/4 + 1)^2 / ((1/4)^2 / 3 + 1^2 / 3)
    greater = [5 - 1.5**0.5, 5, 5, 5 + 1.5**0.5]
    control = [3 - 6**0.5, 3, 3, 3 + 6**0.5]
    (row,) = against_control({"arm": greater, "noise": control}, "noise")
    assert row.t == pytest.approx(2 / 1.25**0.5)
    assert row.degrees == pytest.approx(1.25**2 / (1 / 48 + 1 / 3))
    assert row.difference == pytest.approx(2)
    assert row.p_holm == row.p_value  # one arm: nothing to correct


def test_the_test_is_for_greater_values_only() -> None:
    low, high = [1.0, 1.1, 0.9, 1.05], [2.0, 2.1, 1.9, 2.2]
    (up,) = against_control({"arm": high, "noise": low}, "noise")
    (down,) = against_control({"arm": low, "noise": high}, "noise")
    assert up.p_value < 0.001
    assert down.p_value > 0.999
    assert up.p_mann_whitney == pytest.approx(1 / 70)  # one order of C(8, 4)


def test_holm_multiplies_the_smallest_by_the_number_of_arms() -> None:
    arms = {"one": [3.0, 3.2, 3.1], "two": [1.1, 1.4, 1.2], "noise": [1.0, 1.2, 1.1]}
    rows = {row.arm: row for row in against_control(arms, "noise")}
    assert rows["one"].p_holm == pytest.approx(2 * rows["one"].p_value)
    assert rows["two"].p_holm == pytest.approx(rows["two"].p_value)


def test_hedges_g_by_hand() -> None:
    # d = 2 / 1, n = 3 + 3: correction 1 - 3 / (4*4 - 1) = 0.8
    assert hedges_g([3, 4, 5], [1, 2, 3]) == pytest.approx(1.6)
    assert hedges_g([1, 1], [1, 1]) == 0


@pytest.mark.parametrize(
    "arms", [{"a": [1.0, 2.0]}, {"a": [1.0, 2.0], "b": [1.0]}], ids=["one arm", "one value"]
)
def test_too_little_is_refused(arms: dict[str, list[float]]) -> None:
    with pytest.raises(DataError, match="expected at least two arms of two values"):
        anova(arms)


def test_the_control_must_be_an_arm() -> None:
    with pytest.raises(DataError, match="control=noise; expected one of the arms, a, b"):
        against_control({"a": [1.0, 2.0], "b": [1.0, 3.0]}, "noise")


def test_own_originals_against_strangers_by_hand() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, so t = 0.2 / (0.1 / sqrt 3).
    found = against_strangers([0.4, 0.5, 0.7], [0.3, 0.3, 0.4])
    assert found.t == pytest.approx(0.2 / (0.1 / 3**0.5))
    assert found.p_value == pytest.approx(0.0371, abs=1e-4)
    assert (found.n, found.own) == (3, pytest.approx(1.6 / 3))
    turned = against_strangers([0.3, 0.3, 0.4], [0.4, 0.5, 0.7])
    assert turned.p_value == pytest.approx(1 - 0.0371, abs=1e-4)
    same = against_strangers([0.3, 0.3], [0.3, 0.3])
    assert (same.t, same.p_value) == (None, None)
    with pytest.raises(DataError, match="expected as many, at least two"):
        against_strangers([0.3], [0.3])
