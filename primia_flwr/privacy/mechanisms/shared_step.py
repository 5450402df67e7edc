"""One step of DP-SGD over all sites: each clips by unit and adds its part of the sum's noise.

In every round each site draws units with the same public rate, clips each unit's gradient, adds
them up, and puts its part of Skellam noise on the sum before secure aggregation. One unit moves the
sum over all sites by what it is clipped to, and the noise that nobody knows is needed once, not
once a site: with n sites in the smallest sum, of which k may know their part, the noise of a step
has 1 / (n - k) of the variance that n sites with all the noise of their own would add up to. It
rests on secure aggregation, because a single site's vector has less noise than its epsilon says.

An entry that leaves the scale is cut to it: cutting never moves two vectors further apart.

Source: Kairouz, Liu, Steinke 2021, The Distributed Discrete Gaussian Mechanism; Agarwal, Kairouz,
Liu 2021, The Skellam Mechanism; Abadi et al. 2016 for the step.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primia_flwr.privacy.accounting.events import SampledSkellamSum
from primia_flwr.privacy.mechanisms.aggregate import AggregateNoise, Real
from primia_flwr.privacy.mechanisms.noise import FLOAT_ALLOWANCE

_REACH = 2.0  # largest entry of a step, in steps of which every unit wants the same


@dataclass(frozen=True)
class StepNoise(AggregateNoise):
    """The scale and the noise of one shared step: a function of the experiment, alike at all sites.

    Parameters
    ----------
    sampling_rate : float
        With which every site draws each of its units.
    weight : float
        What a clipped gradient counts in the update: learning rate over expected batch.
    batch : int
        Units that a site is expected to draw, a public number that need not be right.
    """

    sampling_rate: float
    weight: float
    batch: int

    @property
    def reach(self) -> float:
        """The largest magnitude of an entry without its noise."""
        return _REACH * self.clip_norm * self.weight * self.batch

    @property
    def sensitivity(self) -> float:
        """L2 sensitivity of the sum in the update's own units, the grid's part left out."""
        return self.clip_norm * (1 + FLOAT_ALLOWANCE) * self.weight

    def times(self, rounds: int) -> SampledSkellamSum:
        """Return what so many steps cost."""
        l2 = self.sensitivity / self.step + math.sqrt(self.entries)
        return SampledSkellamSum(
            l2_sensitivity=l2,
            l1_sensitivity=min(math.sqrt(self.entries) * l2, l2**2),
            variance=self.variance,
            sampling_rate=self.sampling_rate,
            steps=rounds,
        )

    def bounded(self, update: Real) -> NDArray[np.float64]:
        """Return the update, (d,), with its entries cut to the scale."""
        return np.clip(update.astype(np.float64), -self.reach, self.reach)
