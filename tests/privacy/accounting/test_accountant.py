"""The accountant against dp-accounting called directly, and its refusals."""

from __future__ import annotations

import math

import dp_accounting as dp
import pytest
from dp_accounting.pld import PLDAccountant

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.accountant import (
    PLD,
    RDP,
    Guarantee,
    across_sites,
    epsilon,
    noise_multiplier_for,
)
from primia_flwr.privacy.accounting.events import AnyEvent, Gaussian, Pure, SampledGaussian
from primia_flwr.privacy.accounting.filter import RdpFilter

DELTA = 1e-5


def direct(*events: tuple[float, float, int]) -> float:
    """Noise multiplier, sampling rate and steps, composed one after the other."""
    accountant = PLDAccountant()
    for sigma, rate, steps in events:
        sampled = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(sigma))
        accountant.compose(dp.SelfComposedDpEvent(sampled, steps))
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.parametrize("sigma", [0.8, 1.5, 4.0])
@pytest.mark.parametrize("rate", [0.002, 0.02, 0.1])
@pytest.mark.parametrize(("rounds", "steps"), [(1, 10), (10, 20), (30, 50)])
def test_within_one_percent_of_dp_accounting(
    sigma: float, rate: float, rounds: int, steps: int
) -> None:
    charges = [SampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps)] * rounds
    expected = direct((sigma, rate, rounds * steps))
    found = epsilon(charges, delta=DELTA)
    if found.accountant == RDP:
        assert min(found.epsilon, expected) > 30, "only where nothing is protected"
        return
    assert found.epsilon == pytest.approx(expected, rel=0.01)
    assert found.epsilon >= expected - 1e-9, "never below the pessimistic value"


def test_different_events_compose() -> None:
    events: list[AnyEvent] = [
        SampledGaussian(noise_multiplier=1.0, sampling_rate=0.02, steps=100),
        Gaussian(noise_multiplier=8.0),
        SampledGaussian(noise_multiplier=2.0, sampling_rate=0.1, steps=50),
    ]
    expected = direct((1.0, 0.02, 100), (8.0, 1.0, 1), (2.0, 0.1, 50))
    found = epsilon(events, delta=DELTA)
    assert (found.accountant, found.epsilon) == (PLD, pytest.approx(expected, rel=1e-3))


def test_one_gaussian_against_the_closed_form() -> None:
    """Balle and Wang 2018: delta = Phi(1/2s - e s) - e^e Phi(-1/2s - e s), sensitivity 1."""
    found = epsilon([Gaussian(noise_multiplier=3.0)], delta=DELTA).epsilon

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    delta = phi(1 / 6 - 3 * found) - math.exp(found) * phi(-1 / 6 - 3 * found)
    assert delta <= DELTA
    assert delta == pytest.approx(DELTA, rel=0.02)


def test_without_a_pld_it_says_so() -> None:
    # one release that is 0.5-private: never more than 0.5 by any sum of divergences at high orders
    found = epsilon([Pure(epsilon=0.5)], delta=DELTA)
    assert found.accountant == RDP
    assert 0 < found.epsilon <= 0.51


def test_no_event_costs_nothing() -> None:
    assert epsilon([], delta=DELTA) == Guarantee(0.0, DELTA, PLD)


def test_huge_epsilon_does_not_take_gigabytes() -> None:
    event = SampledGaussian(noise_multiplier=0.15, sampling_rate=0.5, steps=10_000)
    found = epsilon([event], delta=DELTA)
    assert found.accountant == RDP
    assert found.epsilon > 50


def test_delta_at_least_one_over_n_is_refused() -> None:
    with pytest.raises(ConfigError, match="1/100"):
        epsilon([Gaussian(noise_multiplier=1.0)], delta=0.01, units=100)


@pytest.mark.parametrize("wanted", [0.0, -1.0, math.inf, math.nan])
def test_epsilon_out_of_range_is_refused(wanted: float) -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        noise_multiplier_for(epsilon=wanted, delta=DELTA, sampling_rate=0.1, steps=10)


def test_sampling_rate_above_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sampling_rate=1\.1"):
        noise_multiplier_for(epsilon=1.0, delta=DELTA, sampling_rate=1.1, steps=10)


def test_unreachable_epsilon_is_refused() -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        noise_multiplier_for(epsilon=1e-6, delta=1e-12, sampling_rate=1.0, steps=10**6)


@pytest.mark.parametrize("wanted", [1.0, 3.0])
def test_noise_is_enough_and_hardly_more(wanted: float) -> None:
    common = {"sampling_rate": 0.05, "steps": 200}
    noise = noise_multiplier_for(
        epsilon=wanted, delta=DELTA, sampling_rate=0.05, steps=200, relative=0.01
    )
    enough = SampledGaussian(noise_multiplier=noise, **common)  # type: ignore[arg-type]
    less = SampledGaussian(noise_multiplier=noise * 0.98, **common)  # type: ignore[arg-type]
    assert epsilon([enough], delta=DELTA).epsilon <= wanted < epsilon([less], delta=DELTA).epsilon


def test_noise_for_a_filter_passes_it_after_what_was_spent() -> None:
    site = RdpFilter.planned(epsilon=3.0, delta=DELTA)
    before = Gaussian(noise_multiplier=4.0).rdp(site.orders)
    noise = noise_multiplier_for(
        epsilon=3.0, delta=DELTA, sampling_rate=0.05, steps=100, by=site, before=before
    )
    fresh = noise_multiplier_for(epsilon=3.0, delta=DELTA, sampling_rate=0.05, steps=100, by=site)
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=0.05, steps=100)
    assert site.epsilon(before + event.rdp(site.orders)) <= 3.0
    assert noise > fresh


def test_across_sites_by_hand() -> None:
    sites = [Guarantee(1.0, 1e-6, PLD), Guarantee(2.5, 1e-5, RDP)]
    apart = across_sites(sites, patients="disjoint")
    assert apart == Guarantee(2.5, 1e-5, "pld+rdp", "disjoint")
    together = across_sites(sites, patients="shared")
    assert (together.epsilon, together.delta) == (3.5, pytest.approx(1.1e-5))
    assert together.assumed == "shared"


def test_across_sites_refuses_other_words_and_no_site() -> None:
    with pytest.raises(ConfigError, match="did you mean disjoint"):
        across_sites([Guarantee(1.0, 1e-6, PLD)], patients="disjunct")
    with pytest.raises(ConfigError, match="at least one"):
        across_sites([], patients="shared")
