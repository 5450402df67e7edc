"""Bounds against hand-derived values, dp-accounting, and exact divergences."""

from __future__ import annotations

import math

import dp_accounting as dp
import mpmath
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive, logsumexp

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.events import (
    EVENTS,
    AnyEvent,
    Gaussian,
    Pure,
    SampledGaussian,
    SkellamSum,
    event_from_json,
    event_to_json,
    total_rdp,
)

ORDERS = (1.5, 2.0, 2.5, 3.0, 10.0, 64.0)
noise = st.floats(0.3, 50)
events: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(
        SampledGaussian,
        noise_multiplier=noise,
        sampling_rate=st.floats(1e-4, 1),
        steps=st.integers(1, 10_000),
    ),
    st.builds(Gaussian, noise_multiplier=noise),
    st.builds(Pure, epsilon=st.floats(1e-3, 10)),
    st.builds(
        SkellamSum,
        l2_sensitivity=st.floats(1, 10),
        l1_sensitivity=st.floats(10, 100),
        variance=st.floats(10, 1e6),
        rounds=st.integers(1, 50),
    ),
)


def test_gaussian_by_hand() -> None:
    # a / (2 sigma^2) with sigma 2: a / 8
    assert Gaussian(noise_multiplier=2.0).rdp([2, 8]).tolist() == [0.25, 1.0]


def test_sampling_rate_one_is_the_gaussian() -> None:
    every = SampledGaussian(noise_multiplier=2.0, sampling_rate=1.0, steps=3)
    assert every.rdp([2, 8]) == pytest.approx([0.75, 3.0], abs=1e-10)


def test_sampled_gaussian_of_order_two_by_hand() -> None:
    # E[(1 - q + q P/Q)^2] = 1 + q^2 (E[(P/Q)^2] - 1) = 1 + q^2 (e^(1/sigma^2) - 1)
    event = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=5)
    assert event.rdp([2])[0] == pytest.approx(5 * math.log1p(0.01 * (math.e - 1)), rel=1e-9)


@pytest.mark.parametrize(("rate", "sigma"), [(0.01, 0.8), (1e-4, 1.0), (0.3, 5.0)])
def test_sampled_gaussian_against_fifty_digits(rate: float, sigma: float) -> None:
    with mpmath.workdps(50):
        for order in (2, 7, 64):
            q, s = mpmath.mpf(rate), mpmath.mpf(sigma)
            moment = mpmath.fsum(
                mpmath.binomial(order, k)
                * (1 - q) ** (order - k)
                * q**k
                * mpmath.exp((k * k - k) / (2 * s**2))
                for k in range(order + 1)
            )
            exact = float(mpmath.log(moment) / (order - 1))
            event = SampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=1)
            bound = event.rdp([order])[0]
            assert exact <= bound <= exact * (1 + 1e-6) + 2e-12


def test_between_whole_orders_the_bound_is_above_and_near() -> None:
    event = SampledGaussian(noise_multiplier=1.5, sampling_rate=0.05, steps=1)
    orders = [1.5, 2.25, 3.5, 7.75]
    accountant = RdpAccountant(orders)
    accountant.compose(dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(1.5)))
    bound = event.rdp(orders)
    assert np.all(bound >= accountant.rdp)
    assert bound[1:] == pytest.approx(accountant.rdp[1:], rel=0.2)


def test_pure_by_hand() -> None:
    # min(0.5, a 0.125): order 2 below the limit, order 64 at it
    assert Pure(epsilon=0.5).rdp([2, 64]).tolist() == [0.25, 0.5]


def test_skellam_by_hand() -> None:
    # a 4/(2 10) + min(((2a - 1) 4 + 18)/400, 9/20) at a = 2: 0.4 + 0.075
    event = SkellamSum(l2_sensitivity=2.0, l1_sensitivity=3.0, variance=10.0, rounds=2)
    assert event.rdp([2])[0] == pytest.approx(2 * 0.475)


@pytest.mark.parametrize("variance", [1.0, 5.0, 40.0, 1000.0])
@pytest.mark.parametrize("shift", [1, 2, 7])
def test_skellam_bounds_the_exact_divergence(variance: float, shift: int) -> None:
    """One coordinate; symmetric Skellam has mass exp(-v) I_|x|(v), here without what underflows."""
    width = int(30 * math.sqrt(variance)) + 40
    x = np.arange(-width, width + 1)
    moved, still = (np.log(np.maximum(ive(np.abs(x - d), variance), 1e-300)) for d in (shift, 0))
    seen = (moved > -600) & (still > -600)
    for order in (1.5, 2.0, 2.5, 4.0, 11.0):
        exact = logsumexp(order * moved[seen] + (1 - order) * still[seen]) / (order - 1)
        event = SkellamSum(
            l2_sensitivity=shift, l1_sensitivity=shift, variance=max(variance, 1.0), rounds=1
        )
        assert exact <= event.rdp([order])[0] + 1e-9


@given(events)
def test_json_round_trip(event: AnyEvent) -> None:
    assert event_from_json(event_to_json(event)) == event


@settings(max_examples=50, deadline=None)
@given(events)
def test_bounds_are_positive_and_grow_with_the_order(event: AnyEvent) -> None:
    bound = event.rdp(ORDERS)
    assert np.all(bound > 0)
    assert np.all(np.diff(bound) >= -1e-12 * bound[1:])


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        ("sampled_gaussian", {"sampling_rate": 1.5}, "sampling_rate=1.5"),
        ("sampled_gaussian", {"sampling_rate": 0.0}, "sampling_rate=0"),
        ("sampled_gaussian", {"steps": 0}, "steps=0"),
        ("sampled_gaussian", {"steps": True}, "steps=True"),
        ("sampled_gaussian", {"noise_multiplier": 0.0}, "noise_multiplier=0"),
        ("sampled_gaussian", {"noise_multiplier": math.nan}, "noise_multiplier=nan"),
        ("gaussian", {"noise_multiplier": -1.0}, "noise_multiplier=-1"),
        ("pure", {"epsilon": 0.0}, "epsilon=0"),
        ("skellam_sum", {"variance": math.inf}, "variance=inf"),
        ("skellam_sum", {"l1_sensitivity": 0.5}, "l1_sensitivity=0.5"),
        ("skellam_sum", {"rounds": -1}, "rounds=-1"),
    ],
)
def test_out_of_range_is_refused_by_name(kind: str, values: dict[str, float], named: str) -> None:
    good: dict[str, dict[str, float]] = {
        "sampled_gaussian": {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1},
        "gaussian": {"noise_multiplier": 1.0},
        "pure": {"epsilon": 1.0},
        "skellam_sum": {
            "l2_sensitivity": 1.0,
            "l1_sensitivity": 2.0,
            "variance": 100.0,
            "rounds": 1,
        },
    }
    with pytest.raises(ConfigError, match=named):
        EVENTS[kind](**good[kind] | values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"kind": "laplace", "epsilon": 1.0},
        {"kind": "pure"},
        {"kind": "pure", "epsilon": 1.0, "delta": 0.0},
        {"kind": "pure", "epsilon": "1"},
        {"kind": "pure", "epsilon": 1},
        {"kind": "gaussian", "noise_multiplier": True},
    ],
)
def test_foreign_json_is_refused(content: object) -> None:
    with pytest.raises(ConfigError, match="expected"):
        event_from_json(content)


def test_total_adds_up() -> None:
    parts = [Gaussian(noise_multiplier=2.0), Pure(epsilon=0.5)]
    assert total_rdp(parts, [2]).tolist() == [0.25 + 0.25]
    assert total_rdp([], [2, 3]).tolist() == [0.0, 0.0]


def test_words() -> None:
    step = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.05, steps=10)
    total = SkellamSum(l2_sensitivity=10.0, l1_sensitivity=50.0, variance=1e4, rounds=1)
    assert step.words() == "10 steps, noise 1, rate 0.05"
    assert total.words() == "1 Skellam sum(s), noise 10"
    assert Gaussian(noise_multiplier=2.5).words() == "Gaussian, noise 2.5"
    assert Pure(epsilon=0.1).words() == "pure, epsilon 0.1"


def test_somebody_who_is_several_units_by_hand() -> None:
    """A sum moves k times as far: (k / sigma)^2 a / 2; a sampled one is drawn with the rest."""
    assert Gaussian(noise_multiplier=2.0).rdp([2, 8], units=3).tolist() == [2.25, 9.0]
    assert Pure(epsilon=0.5).rdp([2, 100], units=2) == pytest.approx([1.0, 1.0])
    drawn = SampledGaussian(noise_multiplier=4.0, sampling_rate=0.1, steps=5)
    as_one = SampledGaussian(noise_multiplier=2.0, sampling_rate=0.19, steps=5)
    assert drawn.rdp(ORDERS, units=2) == pytest.approx(as_one.rdp(ORDERS))
    summed = SkellamSum(l2_sensitivity=2, l1_sensitivity=8, variance=1e4, rounds=3)
    doubled = SkellamSum(l2_sensitivity=4, l1_sensitivity=16, variance=1e4, rounds=3)
    assert summed.rdp(ORDERS, units=2) == pytest.approx(doubled.rdp(ORDERS))


def test_many_units_with_little_noise_are_finite_and_above_sampling() -> None:
    event = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=1)
    # noise 1/20 a unit is below what the accountant takes: as if it were always drawn
    assert event.rdp([2.0], units=20) == pytest.approx([400.0])


@given(events, st.integers(2, 6))
def test_more_units_cost_more(event: AnyEvent, units: int) -> None:
    assert (event.rdp(ORDERS, units=units) >= event.rdp(ORDERS, units=units - 1) - 1e-9).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 4), st.floats(0.01, 0.9), st.integers(2, 4))
def test_several_sampled_units_are_within_the_bound(noise: float, rate: float, units: int) -> None:
    """Against the divergence of order 2, summed up exactly over how many units are drawn.

    With j of k drawn the sum moves by j: E[(p/q)^2] over q = N(0, s^2) is the sum over pairs
    (i, j) of their chances times exp(i j / s^2).
    """
    chances = [math.comb(units, j) * rate**j * (1 - rate) ** (units - j) for j in range(units + 1)]
    exact = math.log(
        sum(a * b * math.exp(i * j / noise**2) for i, a in enumerate(chances)
            for j, b in enumerate(chances))
    )  # fmt: skip
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=1)
    assert exact <= event.rdp([2.0], units=units)[0] + 1e-9
