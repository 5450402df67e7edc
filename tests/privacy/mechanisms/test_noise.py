import math
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray
from scipy import stats

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.mechanisms.noise import (
    POISSON_UP_TO,
    discrete_gaussian,
    rounded_gaussian,
    site_variance,
    skellam,
)
from primia_flwr.privacy.mechanisms.randomness import fresh_generator, keyed_generator

DRAWS = 100_000
KEY = b"sixteen bytes .."
Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


def chi_square(drawn: Integers, support: Integers, probabilities: Reals) -> float:
    """Return the p-value of the counts; what is rare or off the support is one cell."""
    counts = np.array([np.count_nonzero(drawn == k) for k in support], np.float64)
    expected = probabilities * drawn.size
    usual = expected >= 10
    rest = drawn.size - counts[usual].sum()
    rest_expected = drawn.size - expected[usual].sum()
    observed = np.append(counts[usual], rest)
    wanted = np.append(expected[usual], rest_expected)
    if wanted[-1] < 5:  # too few for a cell: into the last one
        observed[-2] += observed[-1]
        wanted[-2] += wanted[-1]
        observed, wanted = observed[:-1], wanted[:-1]
    return float(stats.chisquare(observed, wanted).pvalue)


def discrete_gaussian_weights(variance: float, support: Integers) -> Reals:
    weights = np.exp(-(support.astype(np.float64) ** 2) / (2 * variance))
    return weights / weights.sum()


def rounded_gaussian_weights(sigma: float, support: Integers) -> Reals:
    return stats.norm.cdf((support + 0.5) / sigma) - stats.norm.cdf((support - 0.5) / sigma)


@pytest.mark.parametrize("variance", [Fraction(1, 9), Fraction(1, 2), 1, Fraction(25, 4), 100])
def test_discrete_gaussian_has_its_distribution(variance: Fraction | int) -> None:
    drawn = discrete_gaussian(DRAWS, variance=variance, generator=keyed_generator(KEY))
    support = np.arange(-60, 61)
    weights = discrete_gaussian_weights(float(variance), support)
    assert chi_square(drawn, support, weights) > 0.01


def test_small_discrete_gaussian_by_hand() -> None:
    # Variance 1/2: weights exp(-k^2), 1 at 0 and 1/e at each of -1, 1, so 0 comes e/2 times as
    # often as both together: 1 / (1 + 2/e + 2/e^4 + ...) = 0.5642 of all.
    drawn = discrete_gaussian(DRAWS, variance=Fraction(1, 2), generator=keyed_generator(KEY))
    zero = np.count_nonzero(drawn == 0) / DRAWS
    one = np.count_nonzero(np.abs(drawn) == 1) / DRAWS
    assert zero == pytest.approx(0.5642, abs=4 * math.sqrt(0.25 / DRAWS))
    assert zero / one == pytest.approx(math.e / 2, rel=0.03)


def test_large_discrete_gaussian_is_nearly_the_gaussian() -> None:
    variance = 50_000_000
    drawn = discrete_gaussian(DRAWS, variance=variance, generator=keyed_generator(KEY))
    assert stats.kstest(drawn / math.sqrt(variance), "norm").pvalue > 0.01


@pytest.mark.parametrize("sigma", [0.3, 1.0, 7.5])
def test_rounded_gaussian_has_its_distribution(sigma: float) -> None:
    drawn = rounded_gaussian(DRAWS, sigma=sigma, generator=keyed_generator(KEY))
    support = np.arange(-60, 61)
    assert chi_square(drawn, support, rounded_gaussian_weights(sigma, support)) > 0.01


@pytest.mark.parametrize("sigma", [2.0**10, 2.0**20, 2.0**50])
def test_rounded_gaussian_of_many_steps_is_nearly_the_gaussian(sigma: float) -> None:
    drawn = rounded_gaussian(DRAWS, sigma=sigma, generator=keyed_generator(KEY))
    assert drawn.dtype == np.int64
    assert stats.kstest(drawn / sigma, "norm").pvalue > 0.01
    assert drawn.var() == pytest.approx(sigma**2, rel=4 * math.sqrt(2 / DRAWS))


def test_last_bits_of_rounded_gaussian_are_even() -> None:
    """A grid of values coarser than the integers would show in the lowest bits."""
    drawn = rounded_gaussian(DRAWS, sigma=2.0**20, generator=keyed_generator(KEY))
    counts = np.bincount(drawn & 15, minlength=16)
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("variance", [0.2, 3.0, 40.0, 900.0])
def test_skellam_has_its_distribution(variance: float) -> None:
    drawn = skellam(DRAWS, variance=variance, generator=keyed_generator(KEY))
    support = np.arange(-300, 301)
    weights = stats.skellam.pmf(support, variance / 2, variance / 2)
    assert chi_square(drawn, support, weights) > 0.01


@pytest.mark.parametrize("variance", [2.0**20, POISSON_UP_TO, 2 * POISSON_UP_TO, 2.0**50])
def test_skellam_of_large_variance_is_nearly_the_gaussian(variance: float) -> None:
    drawn = skellam(DRAWS, variance=variance, generator=keyed_generator(KEY))
    assert drawn.dtype == np.int64
    assert stats.kstest(drawn / math.sqrt(variance), "norm").pvalue > 0.01
    assert drawn.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / DRAWS))
    assert drawn.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / DRAWS))


@pytest.mark.parametrize("variance", [64.0, 256.0, 1024.0])
def test_rounded_gaussian_is_as_near_to_skellam_as_the_docstring_says(variance: float) -> None:
    sigma = math.sqrt(variance)
    support = np.arange(-round(12 * sigma), round(12 * sigma) + 1)
    exact = stats.skellam.pmf(support, variance / 2, variance / 2)
    ours = rounded_gaussian_weights(sigma, support)
    assert 0.5 * np.abs(exact - ours).sum() < 1 / variance
    near = np.abs(support) <= 3 * sigma  # there the shares are below (3^4/24 + 1) / variance
    assert np.abs(ours[near] / exact[near] - 1).max() < 5 / variance


@pytest.mark.parametrize("dropped", range(4))
def test_sum_of_skellam_shares_has_the_noise_that_was_promised(dropped: int) -> None:
    # Ten sites, at least 7 in a sum, 1 of them colluding: each adds 600 / (7 - 1) = 100.
    each = site_variance(600.0, min_survivors=7, max_colluding=1)
    assert each == 100.0
    generator = keyed_generator(KEY)
    sites = 10 - dropped
    shares = [skellam(DRAWS, variance=each, generator=generator) for _ in range(sites)]
    total = np.sum(shares, axis=0)
    assert total.var() == pytest.approx(100.0 * sites, rel=4 * math.sqrt(2 / DRAWS))
    support = np.arange(-300, 301)
    weights = stats.skellam.pmf(support, 50.0 * sites, 50.0 * sites)
    assert chi_square(total, support, weights) > 0.01
    honest = total - shares[0]
    assert honest.var() > 600.0 * (1 - 4 * math.sqrt(2 / DRAWS))


@pytest.mark.parametrize(
    ("min_survivors", "max_colluding"), [(0, 0), (2, 2), (3, 5), (3, -1), (-1, 0)]
)
def test_shares_need_an_honest_site(min_survivors: int, max_colluding: int) -> None:
    with pytest.raises(ConfigError):
        site_variance(1.0, min_survivors=min_survivors, max_colluding=max_colluding)


def test_nothing_repeats_between_calls() -> None:
    draws = [rounded_gaussian(64, sigma=2.0**20) for _ in range(20)]
    draws += [skellam(64, variance=2.0**40) for _ in range(20)]
    draws += [discrete_gaussian(64, variance=10**6) for _ in range(20)]
    assert len({draw.tobytes() for draw in draws}) == 60


def test_generators_with_one_key_agree_and_fresh_ones_do_not() -> None:
    first, second = keyed_generator(KEY), keyed_generator(KEY)
    assert first.bytes(64) == second.bytes(64)
    assert len({fresh_generator().bytes(32) for _ in range(100)}) == 100


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_key_has_sixteen_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="expected 16"):
        keyed_generator(bytes(length))


def test_the_stream_is_aes_in_counter_mode() -> None:
    words = keyed_generator(KEY).bit_generator.random_raw(64)
    cipher = Cipher(AES(KEY), ECB()).encryptor()
    expected = cipher.update(b"".join(i.to_bytes(16, "little") for i in range(32)))
    assert np.asarray(words, "<u8").tobytes() == expected


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_any_number_of_draws(size: int) -> None:
    for drawn in (
        rounded_gaussian(size, sigma=1.0),
        skellam(size, variance=1.0),
        discrete_gaussian(size, variance=1),
    ):
        assert drawn.shape == (size,)
        assert drawn.dtype == np.int64


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 2.0**61])
def test_impossible_widths_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="sigma="):
        rounded_gaussian(1, sigma=value)
    with pytest.raises(ConfigError, match="variance="):
        skellam(1, variance=value)


@pytest.mark.parametrize("value", [0, -1, Fraction(-1, 2), 10**8, Fraction(10**9 + 7, 30), 2.5])
def test_discrete_gaussian_refuses_what_it_cannot_draw_exactly(value: int) -> None:
    with pytest.raises(ConfigError, match="expected a whole number or Fraction above 0"):
        discrete_gaussian(1, variance=value)
