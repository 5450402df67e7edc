"""The filter: the conversion by hand, the ceiling under chosen sequences, PLD as a judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.accountant import epsilon
from primia_flwr.privacy.accounting.events import AnyEvent, Gaussian, SampledGaussian, total_rdp
from primia_flwr.privacy.accounting.filter import (
    RdpFilter,
    SiteFilter,
    Spent,
    check_delta,
    rdp_epsilon,
)

DELTA = 1e-5
FILTER = RdpFilter.planned(epsilon=2.0, delta=DELTA)
wishes: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(Gaussian, noise_multiplier=st.sampled_from([2.0, 5.0, 9.0, 20.0, 60.0])),
    st.builds(
        SampledGaussian,
        noise_multiplier=st.sampled_from([0.7, 1.0, 2.0]),
        sampling_rate=st.sampled_from([0.005, 0.02, 0.1]),
        steps=st.sampled_from([1, 20, 200]),
    ),
)


def test_conversion_by_hand() -> None:
    # one order 2, all of delta: log c = log(1/2) - log 2 = -log 4; a - 1 = 1
    one = RdpFilter(delta=0.01, orders=(2.0,), shares=(1.0,))
    assert one.epsilon(np.array([0.5])) == pytest.approx(0.5 + math.log(100 / 4))
    # two orders with half of delta each: order 3 has log c = 2 log(2/3) - log 3
    two = RdpFilter(delta=0.01, orders=(2.0, 3.0), shares=(0.5, 0.5))
    at_three = 0.5 + (math.log(200) + 2 * math.log(2 / 3) - math.log(3)) / 2
    assert two.epsilon(np.array([5.0, 0.5])) == pytest.approx(at_three)


def test_the_constant_is_the_best_one() -> None:
    """(1 - e^-x)+ <= c e^((a - 1) x), with equality somewhere: the step the proof rests on."""
    x = np.linspace(0, 8, 400_001)
    for order in (1.5, 2.0, 7.0, 64.0):
        log_c = (order - 1) * math.log1p(-1 / order) - math.log(order)
        ratio = -np.expm1(-x) / np.exp(log_c + (order - 1) * x)
        assert ratio.max() == pytest.approx(1, abs=1e-5)
        assert ratio.max() <= 1 + 1e-12


def test_nothing_released_costs_nothing() -> None:
    assert FILTER.epsilon(np.zeros(len(FILTER.orders))) == 0.0
    assert FILTER.epsilon(np.full(len(FILTER.orders), 1e-9)) > 0.0


@settings(max_examples=20, deadline=None)
@given(st.lists(wishes, min_size=1, max_size=12), st.sampled_from([0.5, 2.0, 6.0]))
def test_what_is_allowed_is_within_the_ceiling(wanted: list[AnyEvent], ceiling: float) -> None:
    """Whoever wishes sees each answer and goes on; PLD, which is exact here, is the judge."""
    allowed: list[AnyEvent] = []
    sums = np.zeros(len(FILTER.orders))
    for event in wanted:
        after = sums + event.rdp(FILTER.orders)
        if FILTER.epsilon(after) <= ceiling:
            sums, allowed = after, [*allowed, event]
        else:
            assert FILTER.epsilon(after) > ceiling
    assert FILTER.epsilon(sums) <= ceiling
    assert epsilon(allowed, delta=DELTA).epsilon <= ceiling


def test_a_greedy_opponent_gets_no_more() -> None:
    """Always the largest step that still fits, of three kinds in turn, until none does."""
    sizes: list[list[AnyEvent]] = [
        [Gaussian(noise_multiplier=s) for s in np.geomspace(2, 200, 12)],
        [
            SampledGaussian(noise_multiplier=s, sampling_rate=0.02, steps=50)
            for s in np.geomspace(0.7, 20, 12)
        ],
        [
            SampledGaussian(noise_multiplier=s, sampling_rate=0.002, steps=5)
            for s in np.geomspace(0.5, 10, 12)
        ],
    ]
    sums, taken = np.zeros(len(FILTER.orders)), list[AnyEvent]()
    for turn in range(30):
        for event in sizes[turn % 3]:
            after = sums + event.rdp(FILTER.orders)
            if FILTER.epsilon(after) <= 2.0:
                sums, taken = after, [*taken, event]
                break
    assert FILTER.epsilon(sums) > 1.9, "the opponent is greedy"
    assert epsilon(taken, delta=DELTA).epsilon <= 2.0


def test_planned_filter_loses_little_where_it_was_planned_for() -> None:
    event = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.02, steps=2000)
    dense = tuple(map(float, range(2, 256)))
    plain = rdp_epsilon(event.rdp(dense), dense, DELTA)
    planned = RdpFilter.planned(epsilon=plain, delta=DELTA)
    assert plain < planned.epsilon(event.rdp(planned.orders)) < 1.1 * plain


@given(st.floats(0.01, 1000), st.floats(1e-12, 0.5))
def test_planned_shares_add_up_to_delta(planned: float, delta: float) -> None:
    found = RdpFilter.planned(epsilon=planned, delta=delta)
    assert math.fsum(found.shares) == pytest.approx(1, abs=1e-12)
    assert list(found.orders) == sorted(set(found.orders))
    assert min(found.shares) > 0


def test_shares_above_one_and_bad_orders_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sum to 1\.2"):
        RdpFilter(DELTA, (2.0, 3.0), (0.6, 0.6))
    with pytest.raises(ConfigError, match="orders=1"):
        RdpFilter(DELTA, (1.0,), (1.0,))
    with pytest.raises(ConfigError, match="shares=0"):
        RdpFilter(DELTA, (2.0,), (0.0,))
    with pytest.raises(ConfigError, match="2 orders and 1 shares"):
        RdpFilter(DELTA, (2.0, 3.0), (1.0,))


@pytest.mark.parametrize("delta", [0.0, 1.0, 2.0, -1e-5, math.nan])
def test_delta_out_of_range(delta: float) -> None:
    with pytest.raises(ConfigError, match="delta"):
        check_delta(delta)


def test_delta_not_below_one_over_n() -> None:
    check_delta(0.0099, 100)
    with pytest.raises(ConfigError, match=r"delta=0\.01 with 100 units.*e\.g\. 0\.001"):
        check_delta(0.01, 100)


def test_total_of_a_sequence_does_not_depend_on_its_order() -> None:
    events: list[AnyEvent] = [Gaussian(noise_multiplier=s) for s in (3.0, 5.0)]
    there, back = (FILTER.epsilon(total_rdp(e, FILTER.orders)) for e in (events, events[::-1]))
    assert there == back


# --- Whole runs -----------------------------------------------------------------------------------

# Order 2 with a quarter of delta 0.01: epsilon = S + log(400) - log 4 = S + log 100.
SITE = SiteFilter(RdpFilter(delta=0.01, orders=(2.0,), shares=(0.25,)), runs=0.75)


def spent(epsilon: float, delta: float, sums: float) -> Spent:
    return SITE.spent(np.array([sums]), epsilon=epsilon, delta=delta)


def test_the_smaller_of_both_counts_by_hand() -> None:
    assert SITE.epsilon(spent(5.0, 0.001, 0.5)) == pytest.approx(5.0)
    assert SITE.epsilon(spent(5.5, 0.001, 0.5)) == pytest.approx(0.5 + math.log(100))
    assert SITE.epsilon(spent(math.inf, 0.001, 0.5)) == pytest.approx(0.5 + math.log(100))
    assert SITE.epsilon(SITE.nothing()) == 0.0


def test_runs_whose_deltas_pass_their_share_are_not_covered() -> None:
    assert SITE.epsilon_of_runs(spent(1.0, 0.0075, 1.0)) == 1.0
    assert math.isinf(SITE.epsilon_of_runs(spent(1.0, 0.0075 * (1 + 1e-12), 1.0)))


def test_a_filter_without_a_share_knows_no_runs() -> None:
    old = SiteFilter(RdpFilter(delta=0.01, orders=(2.0,), shares=(1.0,)), runs=0.0)
    assert old.epsilon_of_runs(old.nothing()) == 0.0
    assert math.isinf(old.epsilon_of_runs(old.spent(np.array([0.5]))))
    assert old.delta_of_run(3.0, 3.0) == 0.0


def test_delta_of_a_run_by_hand() -> None:
    for epsilon_, ceiling, part in ((1.0, 4.0, 0.25), (4.0, 4.0, 1.0), (9.0, 4.0, 1.0)):
        assert SITE.delta_of_run(epsilon_, ceiling) == pytest.approx(part * 0.0075)
    assert SITE.delta_of_run(2.0, None) == pytest.approx(0.0075 / 4), "of 8, without a ceiling"


@pytest.mark.parametrize("runs", [-0.1, 1.0, 0.76, math.nan])
def test_a_share_for_runs_that_leaves_too_little_is_refused(runs: float) -> None:
    with pytest.raises(ConfigError, match=r"runs=|shares of delta sum to 1\.01 with whole runs"):
        SiteFilter(SITE.rdp, runs)


@given(st.floats(0.01, 1000), st.floats(1e-12, 0.5))
def test_all_shares_add_up_to_delta(planned: float, delta: float) -> None:
    found = SiteFilter.planned(epsilon=planned, delta=delta)
    assert math.fsum((*found.rdp.shares, found.runs)) == pytest.approx(1, abs=1e-12)
