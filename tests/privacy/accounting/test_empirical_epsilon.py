"""What an audit may conclude: bounds by hand, and how often they are wrong where epsilon is known.

Randomised response of epsilon tells a coin rightly with probability e^epsilon / (1 + e^epsilon).
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.empirical_epsilon import (
    chance_of_guesses,
    one_run_lower_bound,
    repeated_runs_lower_bound,
)

CHANCE = 0.001


def one_run(right: int, guesses: int = 100, **changes: Any) -> float:
    values: dict[str, Any] = {"canaries": guesses, "delta": 0.0, **changes}
    return one_run_lower_bound(guesses=guesses, right=right, **values)


def repeated(hits: int, alarms: int, **changes: Any) -> float:
    values: dict[str, Any] = {"hit_runs": 1000, "alarm_runs": 1000, "delta": 0.0, **changes}
    return repeated_runs_lower_bound(hits=hits, alarms=alarms, **values)


@pytest.mark.parametrize("guesses", [10, 100, 1000])
def test_all_guesses_right_is_a_bound_by_hand(guesses: int) -> None:
    p = CHANCE ** (1 / guesses)  # p^r = 0.001
    assert one_run(guesses, guesses) == pytest.approx(math.log(p / (1 - p)), rel=1e-9)


def test_nine_guesses_right_are_luck() -> None:
    assert one_run(9, 9) == 0.0  # 2^-9 is above 0.001
    assert one_run(10, 10) > 0.0  # 2^-10 is below


def test_half_right_says_nothing() -> None:
    assert one_run(50) == 0.0
    assert one_run(0) == 0.0
    assert repeated(500, 500) == 0.0
    assert repeated(0, 1000) == 0.0


def test_two_guesses_by_hand() -> None:
    # W ~ Bin(2, 1/2): P[W >= 2] = 1/4; alpha = max(P[W = 1] / 1, P[W <= 1] / 2) = max(1/2, 3/8)
    chance = chance_of_guesses(0.0, guesses=2, right=2, canaries=5, delta=0.01)
    assert chance == pytest.approx(1 / 4 + 2 * 5 * 0.01 / 2)
    # v = 1: P[W >= 1] = 3/4; alpha = P[W = 0] = 1/4
    chance = chance_of_guesses(0.0, guesses=2, right=1, canaries=5, delta=0.01)
    assert chance == pytest.approx(3 / 4 + 2 * 5 * 0.01 / 4)


def test_alpha_is_the_largest_of_all_windows_below() -> None:
    epsilon, guesses, right = 0.7, 20, 13
    weights = stats.binom(guesses, special.expit(epsilon))
    windows = [
        sum(weights.pmf(w) for w in range(right - i, right)) / i for i in range(1, right + 1)
    ]
    chance = chance_of_guesses(epsilon, guesses=guesses, right=right, canaries=30, delta=1e-3)
    assert chance == pytest.approx(weights.sf(right - 1) + 2 * 30 * 1e-3 * max(windows))


def test_a_chance_is_at_most_one() -> None:
    assert chance_of_guesses(0.0, guesses=2, right=2, canaries=1000, delta=0.5) == 1.0
    assert one_run(100, delta=0.5) == 0.0


def test_repeated_runs_by_hand() -> None:
    # Clopper-Pearson of n out of n: the rate is at least share^(1/n), with share 0.0005
    sure = 0.0005 ** (1 / 1000)
    assert repeated(1000, 0) == pytest.approx(math.log(sure / (1 - sure)))
    assert repeated(1000, 0, delta=0.1) == pytest.approx(math.log((sure - 0.1) / (1 - sure)))


def test_either_side_of_a_test_may_show_it() -> None:
    # a test that is right on x' always, on x half the time: what counts is the hits, never alarms
    rare = repeated(500, 0)
    assert rare == pytest.approx(math.log(0.4483 / 0.007572), abs=2e-2)
    # and the same with the roles exchanged: the misses are rare
    assert repeated(1000, 500) == pytest.approx(rare)


@given(st.integers(1, 300), st.data())
def test_bounds_rise_with_success_and_fall_with_delta(guesses: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(1, guesses))
    delta = data.draw(st.floats(0, 1e-3))
    bound = one_run(right, guesses, delta=delta)
    assert 0 <= one_run(right - 1, guesses, delta=delta) <= bound + 1e-12
    assert bound <= one_run(right, guesses) + 1e-12
    assert bound >= one_run(right, guesses, delta=delta, canaries=2 * guesses) - 1e-12
    assert bound <= one_run(right, guesses, delta=delta, confidence=0.9) + 1e-12


@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(0, 0.5))
def test_repeated_bounds_rise_with_success(hits: int, alarms: int, delta: float) -> None:
    bound = repeated(hits, alarms, delta=delta)
    assert 0 <= repeated(hits - 1, alarms, delta=delta) <= bound + 1e-12
    assert repeated(hits, alarms - 1, delta=delta) >= bound - 1e-12
    assert repeated(hits, alarms) >= bound - 1e-12


@settings(deadline=None)
@given(
    st.floats(0, 5), st.integers(1, 400), st.floats(0, 0.01), st.sampled_from([0.9, 0.99, 0.999])
)
def test_randomised_response_is_exceeded_no_more_often_than_allowed(
    epsilon: float, guesses: int, delta: float, confidence: float
) -> None:
    """Exactly, without trials: the chance of the counts whose bound is above the true epsilon.

    With probability delta a coin is told outright, else by randomised response: that is
    (epsilon, delta)-private. Bounds rise with the count, so the counts are those from some on.
    """
    low, high = 0, guesses + 1  # the smallest count whose bound is above epsilon
    while low < high:
        middle = (low + high) // 2
        if one_run(middle, guesses, delta=delta, confidence=confidence) > epsilon:
            high = middle
        else:
            low = middle + 1
    rate = delta + (1 - delta) * special.expit(epsilon)
    assert stats.binom.sf(low - 1, guesses, rate) <= (1 - confidence) * (1 + 1e-6)


def test_randomised_response_in_trials() -> None:
    """At 95 % confidence the bound is above the truth in at most 5 % of trials, and often near."""
    epsilon, guesses, trials = 1.0, 400, 400
    rng = np.random.default_rng(7)
    bounds = [
        one_run(int(rng.binomial(guesses, special.expit(epsilon))), guesses, confidence=0.95)
        for _ in range(trials)
    ]
    # of 400, 20 are allowed; 5 deviations of sqrt(400 * 0.05 * 0.95) = 4.4 more would be a fault
    assert sum(bound > epsilon for bound in bounds) <= 20 + 22
    assert np.median(bounds) > 0.7


def test_repeated_randomised_response_in_trials() -> None:
    epsilon, runs, trials = 1.0, 2000, 400
    rng = np.random.default_rng(8)
    hits = rng.binomial(runs, special.expit(epsilon), trials)
    alarms = rng.binomial(runs, special.expit(-epsilon), trials)
    bounds = [
        repeated(int(h), int(a), hit_runs=runs, alarm_runs=runs, confidence=0.95)
        for h, a in zip(hits, alarms, strict=True)
    ]
    assert sum(bound > epsilon for bound in bounds) <= 20 + 22
    assert np.median(bounds) > 0.85


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"right": 101}, "right=101"),
        ({"right": -1}, "right=-1"),
        ({"right": 5.0}, "right=5.0"),
        ({"right": True}, "right=True"),
        ({"guesses": 0, "right": 0}, "guesses=0"),
        ({"guesses": 201}, "guesses=201"),
        ({"canaries": 0}, "canaries=0"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"delta": -1e-9}, "delta=-1e-09"),
        ({"delta": math.nan}, "delta=nan"),
        ({"confidence": 1.0}, "confidence=1.0"),
        ({"confidence": 0.0}, "confidence=0.0"),
    ],
)
def test_wrong_arguments_of_one_run_are_refused(changes: dict[str, Any], field: str) -> None:
    values: dict[str, Any] = {"guesses": 100, "right": 60, "canaries": 200, "delta": 1e-5}
    with pytest.raises(ConfigError, match=field):
        one_run_lower_bound(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hits": 1001}, "hits=1001"),
        ({"alarms": -1}, "alarms=-1"),
        ({"hit_runs": 0, "hits": 0}, "hit_runs=0"),
        ({"alarm_runs": 2.5}, "alarm_runs=2.5"),
        ({"delta": 2.0}, "delta=2.0"),
        ({"confidence": 1.5}, "confidence=1.5"),
    ],
)
def test_wrong_arguments_of_repeated_runs_are_refused(changes: dict[str, Any], field: str) -> None:
    values: dict[str, Any] = {
        **{"hits": 10, "hit_runs": 1000, "alarms": 1, "alarm_runs": 1000, "delta": 1e-5},
        **changes,
    }
    with pytest.raises(ConfigError, match=field):
        repeated_runs_lower_bound(**values)
