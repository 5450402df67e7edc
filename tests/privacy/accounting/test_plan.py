"""What can be afforded, with numbers that a filter of one order lets one check by hand."""

from __future__ import annotations

import math

import pytest

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.events import Gaussian, SampledGaussian
from primia_flwr.privacy.accounting.filter import RdpFilter, SiteFilter
from primia_flwr.privacy.accounting.plan import Data, Row, curves, delta_for, reaches, rows
from primia_flwr.privacy.accounting.run_plan import Wish, spent_by

# Order 2 with all of delta: epsilon = S + log(1/delta) - log 4 = S + log 25 with delta 0.01.
ONE = SiteFilter(RdpFilter(delta=0.01, orders=(2.0,), shares=(1.0,)), runs=0.0)
EVERY = Data(units=50, batch=50)


def test_data_by_hand() -> None:
    data = Data(units=1000, batch=64)
    assert (data.sampling_rate, data.steps(1), data.steps(0.5)) == (0.064, 16, 8)


def test_reach_by_hand() -> None:
    # a step with all units costs 2/(2 4^2) = 1/16; room for a ceiling of log 25 + 1: 16 steps
    ceiling = math.log(25) + 1 + 1e-9
    (reach,) = reaches(EVERY, epsilons=[ceiling], noise_multipliers=[4.0], delta=0.01, site=ONE)
    assert (reach.steps, reach.epochs) == (16, 16.0)
    before = ONE.spent(Gaussian(noise_multiplier=2.0).rdp([2.0]))  # 1/4: four steps less
    (less,) = reaches(
        EVERY, epsilons=[ceiling], noise_multipliers=[4.0], delta=0.01, site=ONE, before=before
    )
    assert less.steps == 12
    (none,) = reaches(EVERY, epsilons=[1.0], noise_multipliers=[4.0], delta=0.01, site=ONE)
    assert none.steps == 0


def test_noise_by_hand() -> None:
    # 10 steps at order 2: 10/sigma^2 = 0.4, so sigma = 5
    (row,) = rows(EVERY, epsilons=[math.log(25) + 0.4], epochs=[10], delta=0.01, site=ONE)
    assert row.noise_multiplier == pytest.approx(5.0, rel=2e-3)
    assert row.noise_multiplier >= 5.0
    assert row.noise_on_mean == row.noise_multiplier / 50
    assert row.epsilon_pld < row.epsilon


@pytest.mark.parametrize(("units", "delta"), [(1000, 1e-4), (999, 1e-4), (1001, 1e-5), (2, 1e-2)])
def test_delta_for(units: int, delta: float) -> None:
    assert delta_for(units) == pytest.approx(delta)


def test_curves_gather_rows_by_epsilon() -> None:
    found = [Row(e, n, 1, e + n, 0.0, 0.0, 0.0, 0.0, 0.0) for e in (1.0, 2.0) for n in (5.0, 10.0)]
    assert curves(found) == {1.0: ([5.0, 10.0], [6.0, 11.0]), 2.0: ([5.0, 10.0], [7.0, 12.0])}


def test_batch_above_units_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch=51 with units=50"):
        Data(units=50, batch=51)


def test_after_a_run_of_the_first_ceiling_a_raised_one_is_for_the_renyi_criteria() -> None:
    site = SiteFilter.planned(epsilon=2.0, delta=1e-4)
    data = Data(units=1000, batch=50)
    run = SampledGaussian(noise_multiplier=1.3, sampling_rate=0.05, steps=100)
    before = spent_by([Wish((run,), 2.0).solve(site, ceiling=2.0)], site)
    (row,) = rows(data, epsilons=[4.0], epochs=[5], delta=1e-4, site=site, before=before)
    assert math.isinf(row.noise_pld)
    assert row.noise_multiplier == row.noise_rdp
    half = spent_by([Wish((run,), 1.0).solve(site, ceiling=2.0)], site)
    (row,) = rows(data, epsilons=[2.0], epochs=[5], delta=1e-4, site=site, before=half)
    assert math.isfinite(row.noise_pld)
    assert row.epsilon_filter <= 2.0


def test_an_epsilon_that_protects_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.epsilon=60"):
        rows(EVERY, epsilons=[60.0], epochs=[1], delta=0.01)
