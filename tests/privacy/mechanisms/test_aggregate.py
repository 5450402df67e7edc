import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.privacy.accounting.filter import SiteFilter
from primia_flwr.privacy.accounting.run_plan import Wish, spent_by
from primia_flwr.privacy.mechanisms.aggregate import AggregateNoise, clipped, with_noise_for
from primia_flwr.secagg.payload.fixed_point import FixedPoint

PLAN = {
    "noise_multiplier": 2.0,
    "clip_norm": 1.5,
    "entries": 10_000,
    "num_sites": 5,
    "survivors": 4,
    "knowing": 2,
}


def noise(**changes: float) -> AggregateNoise:
    return AggregateNoise(**{**PLAN, **changes})


def test_the_scale_is_that_of_secure_aggregation() -> None:
    plan = noise()
    assert plan.step == FixedPoint(plan.clip, 5).step
    # 1.5, and nine deviations of one of (4 - 2) parts of noise of 2 * (2 * 1.5)
    assert plan.clip == pytest.approx(1.5 + 9 * 2 * 3 / math.sqrt(2))


def test_the_event_says_what_the_grid_adds() -> None:
    event = noise().times(7)
    step = noise().step
    assert event.rounds == 7
    assert event.l2_sensitivity == pytest.approx(3 / step + 100)  # sqrt(10,000) for rounding
    assert event.l1_sensitivity == pytest.approx(100 * event.l2_sensitivity)
    assert event.variance == pytest.approx((2 * 3 / step) ** 2)


@pytest.mark.parametrize("present", [4, 5])  # nobody missing, and as many as may be
def test_the_noise_of_a_sum_is_as_claimed(present: int) -> None:
    plan, total = noise(), np.zeros(10_000, np.uint32)
    for _ in range(present):
        own = np.zeros(10_000, np.uint32)
        plan.add_to(own)
        total += own
    signed = total.view(np.int32).astype(np.float64)
    one = plan.event.variance / 2  # each of 4 - 2 parts
    # 10,000 draws: the variance is known to sqrt(2 / 10,000) = 1.4 %
    assert signed.var() == pytest.approx(present * one, rel=0.08)
    assert abs(signed.mean()) < 5 * math.sqrt(present * one / 10_000)
    # those who know nobody's noise but that of two sites still face what was claimed
    assert (present - 2) * one >= plan.event.variance * (1 - 1e-12)


def test_each_call_draws_other_noise() -> None:
    first, second = np.zeros(10_000, np.uint32), np.zeros(10_000, np.uint32)
    noise().add_to(first)
    noise().add_to(second)
    assert (first != second).mean() > 0.99


def test_what_is_encoded_stays_in_the_middle() -> None:
    plan = noise(noise_multiplier=0.2)
    encoded = np.full(10_000, -1000, np.int32).view(np.uint32)
    plan.add_to(encoded)
    assert encoded.view(np.int32).mean() == pytest.approx(
        -1000, abs=5 * math.sqrt(plan.event.variance / 2 / 10_000)
    )


def test_an_entry_that_leaves_the_scale_is_not_sent() -> None:
    most = (2**31 - 1) // 5
    encoded = np.full(10_000, most, np.int32).view(np.uint32)
    with pytest.raises(ProtocolError, match="leaves the fixed-point scale"):
        noise().add_to(encoded)


@pytest.mark.parametrize("bad", [np.zeros(9, np.uint32), np.zeros(10_000, np.uint64)])
def test_another_vector_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="expected uint32"):
        noise().add_to(bad)


@pytest.mark.parametrize(("survivors", "knowing"), [(3, 3), (2, 5)])
def test_somebodys_noise_must_stay_unknown(survivors: int, knowing: int) -> None:
    with pytest.raises(ConfigError, match="must stay unknown"):
        noise(survivors=survivors, knowing=knowing)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_a_clipped_update_keeps_its_direction(values: list[float], norm: float) -> None:
    update = np.array(values, np.float32)
    found = clipped(update, norm)
    length = float(np.linalg.norm(update.astype(np.float64)))
    assert np.linalg.norm(found) <= norm
    if length <= norm:
        np.testing.assert_array_equal(found, update)
    else:
        np.testing.assert_allclose(found, update.astype(np.float64) * (norm / length), rtol=1e-9)


def test_a_clipped_update_is_three_four_five() -> None:
    np.testing.assert_allclose(clipped(np.array([3, 4], np.float32), 1.0), [0.6, 0.8], rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ProtocolError, match="diverged"):
        clipped(np.array([bad, 1], np.float32), 1.0)


@pytest.mark.parametrize(("epsilon", "rounds"), [(1.0, 1), (8.0, 10)])
def test_the_noise_follows_from_the_epsilon(epsilon: float, rounds: int) -> None:
    plan = with_noise_for(epsilon, 1e-5, rounds=rounds, like=noise())
    counted = SiteFilter.planned(epsilon=epsilon, delta=1e-5)

    def spent(multiplier: float) -> float:
        event = noise(noise_multiplier=multiplier).times(rounds)
        plan = Wish((event,)).solve(counted, ceiling=epsilon)
        return counted.epsilon(spent_by([plan], counted))

    assert spent(plan.noise_multiplier) <= epsilon < spent(plan.noise_multiplier * 0.99)
