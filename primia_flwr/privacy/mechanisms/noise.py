"""Noise on the integer grid: discrete Gaussian, rounded Gaussian, Skellam.

A floating-point sum plus floating-point noise leaks through its last bits: which numbers can
come out at all depends on the sum (Mironov 2012). So the sum is put on a grid first, and the
noise is an integer: whatever the sum, every integer can come out, up to the sampler's reach.

- `discrete_gaussian`: integers k with weights exp(-k^2 / (2 variance)), by rational arithmetic.
  Exact but for a cut beyond 40 standard deviations, where less than e^-700 lies.
- `rounded_gaussian`: a Gaussian rounded to the nearest integer, for long vectors.
- `skellam`: the difference of two Poisson numbers, whose sums over sites are Skellam again.

`rounded_gaussian`: on an integer sum, rounding the noise is rounding sum plus noise, which is
post-processing of the Gaussian mechanism. An ideal rounded Gaussian costs no more privacy than
the Gaussian of the same sigma, at any sigma. It is not the discrete Gaussian: its variance is
larger by about 1/12. What is not ideal is the Gaussian underneath. numpy's ziggurat makes it of
52 random bits in layers; with sigma = 2^20 some 2^30 to 2^32 of a layer's values fall on one
integer, give or take one, so its probability is off by a share of about 2^-30, and by more
beyond 9 sigma; beyond 12.3 sigma nothing comes out (ideally: with probability 10^-34). Over d
entries such shares change the privacy loss by about 2^-30 sqrt(d) as long as they are as good as
independent (3e-6 for 11 million), and by 2^-30 d (0.01) if all pointed the same way. The
accountant does not count this.

`skellam`: up to a variance of 2^28 it is numpy's Poisson sampler, whose acceptance test is
computed in float64 and is off by at most 2^-21 there; above, it is a rounded Gaussian, whose
total variation from Skellam is below 1 / variance, and whose probabilities differ by a share of
less than 200 / variance up to 8 standard deviations (2^-20 and less).

Source: Canonne, Kamath, Steinke 2020, The Discrete Gaussian for Differential Privacy; Mironov
2012, On Significance of the Least Significant Bits for Differential Privacy; Agarwal, Kairouz,
Liu 2021, The Skellam Mechanism for Differentially Private Federated Learning.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.mechanisms.randomness import fresh_generator

_Integers = NDArray[np.int64]

FLOAT_ALLOWANCE = 2.0**-10  # of a clipping norm, for norms and sums in float32
_LARGEST_SIGMA = 2.0**50
_LARGEST_SKELLAM_VARIANCE = 2.0**60
POISSON_UP_TO = 2.0**28  # variance; above, the acceptance test of numpy's sampler gets coarse
_CHUNK = 1 << 16  # entries: a chunk in float64 fits a second-level cache
_FARTHEST = 40  # scales of the proposal, beyond which a discrete Gaussian is cut off


def rounded_gaussian(
    size: int, *, sigma: float, generator: np.random.Generator | None = None
) -> _Integers:
    """Draw Gaussian numbers rounded to integers: (size,) int64.

    Parameters
    ----------
    size : int
        0 or more.
    sigma : float
        Standard deviation before rounding, in grid steps; above 0, at most 2^50.
    generator : numpy.random.Generator, optional
        For tests; by default a fresh one, keyed by the operating system.

    Raises
    ------
    ConfigError
        If `sigma` is out of range.
    """
    check_range("sigma", sigma, 0, _LARGEST_SIGMA, example=2.0**20, open_low=True)
    generator = generator or fresh_generator()
    noise = np.empty(size, np.int64)
    scratch = np.empty(min(_CHUNK, size), np.float64)
    for at in range(0, size, _CHUNK):
        part = noise[at : at + _CHUNK]
        values = generator.standard_normal(out=scratch[: part.size])
        np.multiply(values, sigma, out=values)
        np.rint(values, out=values)
        np.copyto(part, values, casting="unsafe")
    return noise


def skellam(
    size: int, *, variance: float, generator: np.random.Generator | None = None
) -> _Integers:
    """Draw differences of two independent Poisson numbers of mean variance/2: (size,) int64.

    `size`: 0 or more. `variance`: in squared grid steps; above 0, at most 2^60. `generator`: for
    tests; by default a fresh one, keyed by the operating system.

    Raises
    ------
    ConfigError
        If `variance` is out of range.
    """
    check_range("variance", variance, 0, _LARGEST_SKELLAM_VARIANCE, example=2.0**40, open_low=True)
    generator = generator or fresh_generator()
    if variance > POISSON_UP_TO:
        return rounded_gaussian(size, sigma=math.sqrt(variance), generator=generator)
    noise = generator.poisson(variance / 2, size)
    noise -= generator.poisson(variance / 2, size)
    return noise.astype(np.int64, copy=False)


def site_variance(variance: float, *, min_survivors: int, max_colluding: int = 0) -> float:
    """Return the variance of each site's Skellam share, so that enough honest ones always add up.

    However many sites drop out, at least `min_survivors` are in a sum, and all but `max_colluding`
    of these keep their noise to themselves: the noise that nobody can subtract has at least
    `variance`.

    Raises
    ------
    ConfigError
        If no honest site would be left.
    """
    check_range("variance", variance, 0, example=2.0**40, open_low=True)
    check_range("max_colluding", max_colluding, 0, example=0)
    check_range("min_survivors", min_survivors, max_colluding + 1, example=max_colluding + 3)
    return variance / (min_survivors - max_colluding)


def discrete_gaussian(
    size: int, *, variance: Fraction | int, generator: np.random.Generator | None = None
) -> _Integers:
    """Draw integers k with probability in proportion to exp(-k^2 / (2 variance)): (size,) int64.

    Exact: no floating point decides. For counts and statistics; a draw takes about a
    microsecond.

    Parameters
    ----------
    size : int
        0 or more.
    variance : Fraction or int
        In squared grid steps, above 0. The arithmetic must fit 64 bits: a whole number up to
        5 * 10^7, less with a denominator.
    generator : numpy.random.Generator, optional
        For tests; by default a fresh one, keyed by the operating system.

    Raises
    ------
    ConfigError
        If `variance` is out of range.

    Source: Canonne, Kamath, Steinke 2020, Algorithm 3, many draws at once.
    """
    exact = _checked(variance)
    generator = generator or fresh_generator()
    noise = np.empty(size, np.int64)
    filled = 0
    while filled < size:
        drawn = _accepted(2 * (size - filled) + 16, exact, generator)[: size - filled]
        noise[filled : filled + drawn.size] = drawn
        filled += drawn.size
    return noise


def _scale(variance: Fraction) -> int:
    """Scale t of the Laplace proposal: floor(sigma) + 1."""
    return math.isqrt(math.floor(variance)) + 1


def _checked(variance: Fraction | int) -> Fraction:
    exact = Fraction(variance) if isinstance(variance, Fraction | int) else Fraction(-1)
    if exact <= 0 or (_FARTHEST * _scale(exact) ** 2 * exact.denominator) ** 2 >= 2**62:
        raise ConfigError(
            f"variance={variance}; expected a whole number or Fraction above 0, at most 5 * 10^7 "
            "and less with a denominator, e.g. Fraction(25, 4); for more use rounded_gaussian"
        )
    return exact


def _accepted(count: int, variance: Fraction, generator: np.random.Generator) -> _Integers:
    """Propose `count` discrete Laplace numbers and return those that pass, in order.

    With variance p/q and scale t, a number y passes with probability exp(-a/b) for
    a = (|y| t q - p)^2 and b = 2 p q t^2.
    """
    t, p, q = _scale(variance), variance.numerator, variance.denominator
    y = _discrete_laplace(count, t, generator)
    y = y[np.abs(y) <= _FARTHEST * t]
    shifted = np.abs(y) * (t * q) - p
    passed = _bernoulli_exp(shifted * shifted, 2 * p * q * t * t, generator)
    return y[passed]


def _discrete_laplace(count: int, t: int, generator: np.random.Generator) -> _Integers:
    """Return integers with weights exp(-|y| / t); fewer than `count`, as some proposals fail."""
    u = generator.integers(0, t, count)
    u = u[_bernoulli_exp(u, t, generator)]
    whole = np.zeros(u.size, np.int64)
    going = np.arange(u.size)
    while going.size:
        going = going[_bernoulli_exp(np.ones(going.size, np.int64), 1, generator)]
        whole[going] += 1
    y = u + t * whole
    negative = generator.integers(0, 2, y.size) == 1
    keep = ~(negative & (y == 0))  # otherwise 0 would come twice as often
    kept: _Integers = np.where(negative, -y, y)[keep]
    return kept


def _bernoulli_exp(
    numerator: _Integers, denominator: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return True with probability exp(-numerator / denominator), exactly, for ratios >= 0."""
    whole, rest = np.divmod(numerator, denominator)
    passed = np.ones(numerator.size, np.bool_)
    going = np.flatnonzero(whole > 0)
    while going.size:
        ok = _bernoulli_exp_fraction(np.ones(going.size, np.int64), 1, generator)
        passed[going[~ok]] = False
        whole[going] -= 1
        going = going[ok & (whole[going] > 0)]
    last = np.flatnonzero(passed)
    passed[last] = _bernoulli_exp_fraction(rest[last], denominator, generator)
    return passed


def _bernoulli_exp_fraction(
    numerator: _Integers, denominator: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return True with probability exp(-numerator / denominator), for ratios in [0, 1].

    Draw events of probability ratio/1, ratio/2, ... until one fails; the number of successes is
    even with exactly that probability.
    """
    even = np.ones(numerator.size, np.bool_)
    going = np.arange(numerator.size)
    k = 1
    while going.size:
        happened = generator.integers(0, denominator * k, going.size) < numerator[going]
        going = going[happened]
        even[going] ^= True
        k += 1
    return even
