"""A step whose noise is shared in the secure sum: its figures by hand, and its event."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.events import (
    Gaussian,
    SampledGaussian,
    SampledSkellamSum,
    event_from_json,
    event_to_json,
)
from primia_flwr.privacy.mechanisms.shared_step import StepNoise
from primia_flwr.secagg.payload.fixed_point import FixedPoint

NOISE = StepNoise(
    noise_multiplier=2.0,
    clip_norm=0.5,
    entries=100,
    num_sites=4,
    survivors=3,
    knowing=1,
    sampling_rate=0.25,
    weight=0.01,
    batch=40,
)
FINE = SampledSkellamSum(
    l2_sensitivity=1e6, l1_sensitivity=1e7, variance=4e12, sampling_rate=0.1, steps=10
)


def test_one_unit_moves_the_sum_by_its_clipped_gradient_and_not_by_twice_that() -> None:
    assert NOISE.sensitivity == pytest.approx(0.5 * 0.01 * (1 + 2**-10))


def test_the_scale_holds_twice_a_batch_of_one_mind_and_nine_deviations_of_a_sites_part() -> None:
    share = 2.0 * NOISE.sensitivity / math.sqrt(3 - 1)
    assert NOISE.clip == pytest.approx(2 * 0.5 * 0.01 * 40 + 9 * share)


def test_noise_of_the_sites_that_keep_it_to_themselves_adds_up_to_the_wanted() -> None:
    encoded = np.zeros((3, 100), np.uint32)
    for vector in encoded:
        NOISE.add_to(vector)
    unknown = encoded[:2].sum(axis=0, dtype=np.uint32).view(np.int32) * NOISE.step
    # 100 entries: the deviation of a deviation is 7 %
    assert unknown.std() == pytest.approx(2.0 * NOISE.sensitivity, rel=0.35)


def test_an_entry_beyond_the_scale_is_cut_and_distances_never_grow() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, NOISE.reach, (2, 100))
    assert np.abs(NOISE.bounded(one)).max() <= NOISE.reach
    apart = np.linalg.norm(NOISE.bounded(one) - NOISE.bounded(other))
    assert apart <= np.linalg.norm(one - other)
    encoded = np.zeros(100, np.uint32)
    cut = FixedPoint(NOISE.clip, 4).encode(NOISE.bounded(one), 1.0, encoded, overflow="decline")
    assert cut == 0


def test_somebody_must_keep_their_noise() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.max_knowing=3"):
        replace(NOISE, knowing=3)


def test_on_a_fine_grid_a_step_costs_what_the_sampled_gaussian_does() -> None:
    # sensitivity 1e6 steps, deviation 2e6: noise multiplier 2; the grid adds a share of about 1e-6
    orders = (2.0, 3.0, 8.0, 32.0)
    gaussian = SampledGaussian(noise_multiplier=2.0, sampling_rate=0.1, steps=10)
    np.testing.assert_allclose(FINE.rdp(orders), gaussian.rdp(orders), rtol=1e-3)
    assert (FINE.rdp(orders) >= gaussian.rdp(orders) * (1 - 1e-9)).all()


def test_order_2_by_hand() -> None:
    # 1 + q^2 (exp(e_2) - 1) with e_2 of the sum without sampling
    coarse = SampledSkellamSum(
        l2_sensitivity=10.0, l1_sensitivity=100.0, variance=400.0, sampling_rate=0.3, steps=1
    )
    tail = min((3 * 100 + 6 * 100) / (4 * 400**2), 3 * 100 / (2 * 400))
    whole = 2 * 100 / (2 * 400) + tail
    expected = math.log(1 + 0.09 * (math.exp(whole) - 1))
    assert coarse.rdp([2.0])[0] == pytest.approx(expected, rel=1e-6)


def test_all_drawn_is_the_sum_without_sampling() -> None:
    surely = replace(FINE, sampling_rate=1.0)
    once = Gaussian(noise_multiplier=2.0).rdp([2.0, 5.0])
    np.testing.assert_allclose(surely.rdp([2.0, 5.0]), 10 * once, rtol=1e-3)


def test_a_person_of_two_units_is_counted_without_sampling() -> None:
    np.testing.assert_allclose(FINE.rdp([4.0], units=2), FINE.whole().rdp([4.0], units=2))


def test_it_goes_into_the_ledger_and_back() -> None:
    assert event_from_json(event_to_json(FINE)) == FINE


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01])
def test_a_rate_is_a_probability(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.sampling_rate"):
        replace(FINE, sampling_rate=rate)
