"""Differential privacy of the aggregate: each site clips its update and adds its part of the noise.

What the coordinator learns is the sum over at least `survivors` sites, each of which put Skellam
noise of its own on the integer grid of secure aggregation. A site knows its own noise, and so do
those that work together: `knowing` of them, one at least. The noise of the others is what
protects, so each part has the wanted variance over (survivors - knowing).

One unit more or less changes its site's update in any way, within the ball of radius `clip_norm`:
the sum changes by at most 2 clip_norm in L2, and on the grid by sqrt(d) more, because each of the
d entries of both updates is rounded by half a step. In L1 it is at most sqrt(d) times that, and,
of integers, at most its square.

Source: Agarwal, Kairouz, Liu 2021, The Skellam Mechanism; Kairouz, Liu, Steinke 2021, The
Distributed Discrete Gaussian Mechanism, for noise in parts.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.privacy.accounting.accountant import least_noise
from primia_flwr.privacy.accounting.events import SampledSkellamSum, SkellamSum
from primia_flwr.privacy.accounting.filter import SiteFilter
from primia_flwr.privacy.accounting.run_plan import Wish, spent_by
from primia_flwr.privacy.mechanisms import statistics
from primia_flwr.privacy.mechanisms.noise import site_variance, skellam

Real = NDArray[np.float32] | NDArray[np.float64]
_HEADROOM = 9.0  # standard deviations of a site's noise that fit on the scale


@dataclass(frozen=True)
class AggregateNoise:
    """The scale and the noise of one aggregate: a function of the experiment, alike at all sites.

    Parameters
    ----------
    noise_multiplier : float
        Standard deviation of the noise that nobody knows, over the L2 sensitivity.
    clip_norm : float
        Largest L2 norm of a site's update.
    entries : int
        d, of the update.
    num_sites : int
        Of the roster: their sum must fit 32 bits.
    survivors, knowing : int
        The fewest sites in a sum; how many of them may know their part of the noise.
    """

    noise_multiplier: float
    clip_norm: float
    entries: int
    num_sites: int
    survivors: int
    knowing: int

    def __post_init__(self) -> None:
        if self.knowing >= self.survivors:
            raise ConfigError(
                f"privacy.max_knowing={self.knowing} with {self.survivors} sites in the smallest "
                "sum; expected fewer: somebody's noise must stay unknown; raise "
                "aggregation.min_survivors"
            )

    @property
    def clip(self) -> float:
        """The largest magnitude of an entry with its noise: what the fixed-point scale must hold.

        A site's noise passes its part of it with a probability below 10^-18 an entry.
        """
        share = self.noise_multiplier * self.sensitivity / math.sqrt(self.survivors - self.knowing)
        return self.reach + _HEADROOM * share

    @property
    def reach(self) -> float:
        """The largest magnitude of an entry without its noise."""
        return self.clip_norm

    @property
    def sensitivity(self) -> float:
        """L2 sensitivity of the sum in the update's own units, the grid's part left out."""
        return 2 * self.clip_norm

    @property
    def step(self) -> float:
        """The value of one grid step, as in `secagg.fixed_point`."""
        return self.clip / ((2**31 - 1) // self.num_sites)

    @property
    def event(self) -> SkellamSum | SampledSkellamSum:
        """What one aggregate costs."""
        return self.times(1)

    def times(self, rounds: int) -> SkellamSum | SampledSkellamSum:
        """Return what so many aggregates cost."""
        l2 = self.sensitivity / self.step + math.sqrt(self.entries)
        return SkellamSum(
            l2_sensitivity=l2,
            l1_sensitivity=min(math.sqrt(self.entries) * l2, l2**2),
            variance=self.variance,
            rounds=rounds,
        )

    def add_to(self, encoded: NDArray[np.uint32] | NDArray[np.uint64]) -> None:
        """Add a site's part of the noise to its encoded update, in place, modulo 2^32.

        Parameters
        ----------
        encoded : ndarray
            (d,) uint32: the clipped update on the grid.

        Raises
        ------
        ProtocolError
            If it is not (d,), or an entry with its noise leaves the scale: nothing may be sent.
        """
        if encoded.shape != (self.entries,) or encoded.dtype != np.uint32:
            raise ProtocolError(
                f"the encoded update is {encoded.dtype} {encoded.shape}; expected uint32 "
                f"({self.entries},)"
            )
        part = site_variance(
            self.variance, min_survivors=self.survivors, max_colluding=self.knowing
        )
        noisy = skellam(self.entries, variance=part)
        noisy += encoded.view(np.int32)
        if np.abs(noisy).max(initial=0) > (2**31 - 1) // self.num_sites:
            raise ProtocolError("an entry with its noise leaves the fixed-point scale; try again")
        np.copyto(encoded.view(np.int32), noisy, casting="unsafe")

    def bounded(self, update: Real) -> NDArray[np.float64]:
        """Return a site's update, (d,), as it may enter a sum: clipped."""
        return clipped(update, self.clip_norm)

    @property
    def variance(self) -> float:
        """Of the noise that nobody knows, in squared grid steps."""
        return (self.noise_multiplier * (self.sensitivity / self.step)) ** 2


def clipped(
    update: NDArray[np.float32] | NDArray[np.float64], clip_norm: float
) -> NDArray[np.float64]:
    """Return an update scaled so that its L2 norm is at most `clip_norm`: (d,) float64.

    Raises
    ------
    ProtocolError
        If it is not finite.
    """
    values = update.astype(np.float64)
    norm = float(np.linalg.norm(values))
    if not math.isfinite(norm):
        raise ProtocolError("the update is not finite: has the training diverged?")
    if norm > clip_norm:
        values *= clip_norm / norm * (1 - 2**-40)  # rounding may not lead beyond it
    return values


@lru_cache(maxsize=8)
def with_noise_for(
    epsilon: float,
    delta: float,
    *,
    rounds: int,
    like: AggregateNoise,
    statistics_noise: float = 0.0,
) -> AggregateNoise:
    """Return the least noise with which `rounds` aggregates stay within (epsilon, delta).

    The same at every site: it counts as a filter does that was planned for this epsilon.

    Raises
    ------
    ConfigError
        If no noise is large enough.
    """
    counted_by = SiteFilter.planned(epsilon=epsilon, delta=delta)
    once = (statistics.cost(statistics_noise),) if statistics_noise else ()
    before = [Wish((event,)).solve(counted_by, ceiling=epsilon) for event in once]

    def spent(noise: float) -> float:
        event = replace(like, noise_multiplier=noise).times(rounds)
        plans = [*before, Wish((event,)).solve(counted_by, ceiling=epsilon)]
        return counted_by.epsilon(spent_by(plans, counted_by))

    return replace(like, noise_multiplier=least_noise(spent, epsilon))
