"""A clipping norm that follows a quantile of the units' norms, paid for by the step itself.

With each noisy gradient the step releases how many of its units are below the norm that it clips
to: of unit i

    c_i = 1/2 if its norm is well below, -1/2 if it is well above, in between on a straight line;

their noisy sum over the expected batch, and 1/2 on top, estimates the share b that is below, and
the next step's norm is C exp(-rate (b - quantile)): a function of noisy releases only.

What it costs. A unit that is drawn adds (g_i, c_i) to the sum of both, one that is zeroed out adds
(0, 0); |g_i| <= S and |c_i| <= T. Noise of deviation z' S on the gradients and sigma_b = k T on the
centred count is white noise after dividing by it, so a unit moves the pair, in its deviations, by

    (|g_i| / (z' S))^2 + (|c_i| / (k T))^2 <= 1 / z'^2 + 1 / k^2 = 1 / z^2

at most, if z' = (z^-2 - k^-2)^(-1/2). Both come from one draw: together they are one Gaussian
mechanism of multiplier z on the units that the step drew, which is what the ledger is charged, and
the composition of steps already lets each of them depend on what came out before. T is 1/2, so
k = 2 sigma_b; 2 sigma_b must be above z.

T is a little larger than 1/2, and so is the noise: the count is put on a grid of 2^-20, and
floating point lets one unit more change how the others' norms are rounded. On the straight line,
which is a quarter of the norm wide, that moves c_i by four times the relative error of a norm;
where a count jumps, it would move a unit by 1. 2^-6 of T is allowed for it. Measured, not proven,
as that of the gradients (`dp_step`).

Source: Andrew, Thakkar, McMahan, Ramaswamy 2021, Differentially Private Learning with Adaptive
Clipping, https://arxiv.org/abs/1905.03871, whose counts jump.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from primia_flwr.config.checks import check_range
from primia_flwr.config.experiment.privacy import check_count_noise
from primia_flwr.privacy.clipping.engine import Engine
from primia_flwr.privacy.mechanisms.dp_step import Mechanism, NoisyGradient, measured_total
from primia_flwr.privacy.mechanisms.noise import rounded_gaussian

COUNT_ALLOWANCE = 2.0**-6  # of the largest centred count, for norms in floating point
_LINE = 0.25  # width of the straight line, in clipping norms
_GRID = 2.0**-20
_ROUNDING = 1e-9  # what float64 may lose of a noise multiplier, given back
_SMALLEST, _LARGEST = 1e-6, 1e6


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """How a clipping norm moves, with how much noise.

    Parameters
    ----------
    quantile : float
        The share of units that shall be below it, in (0, 1).
    rate : float
        How far its logarithm moves when all that are below should be above; above 0.
    count_noise : float
        Standard deviation of the noise on the count, in units; above 0.

    Raises
    ------
    ConfigError
        If one is out of range.
    """

    quantile: float
    rate: float
    count_noise: float

    def __post_init__(self) -> None:
        ends = {"open_low": True, "open_high": True}
        check_range("privacy.clip_quantile", self.quantile, 0, 1, example=0.5, **ends)
        check_range("privacy.clip_rate", self.rate, 0, 2, example=0.2, open_low=True)
        key = "privacy.clip_count_noise"
        check_range(key, self.count_noise, 0, 1e6, example=6.4, open_low=True)

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise on the centred count, in grid steps."""
        return 2 * self.count_noise * (0.5 * (1 + COUNT_ALLOWANCE) + _GRID) / _GRID

    def gradient_noise(self, noise_multiplier: float) -> float:
        """Return the noise multiplier of the gradients, so that a step costs the given one.

        Raises
        ------
        ConfigError
            If the counts alone cost as much.
        """
        check_count_noise(self.count_noise, noise_multiplier)
        share = noise_multiplier / (2 * self.count_noise)
        return noise_multiplier / math.sqrt((1 - share) * (1 + share)) * (1 + _ROUNDING)

    def centred(self, norms: NDArray[np.float64], clip_norm: float) -> float:
        """Return the sum of the units' centred counts, before any noise: a secret.

        `norms`: (units,), finite.
        """
        return float(np.clip((1 - norms / clip_norm) / _LINE, -0.5, 0.5).sum())

    def moved(self, clip_norm: float, noisy: float, *, expected_batch: float) -> float:
        """Return the next clipping norm, from the noisy sum of centred counts."""
        below = noisy / expected_batch + 0.5
        power = min(max(-self.rate * (below - self.quantile), -10.0), 10.0)
        return min(max(clip_norm * math.exp(power), _SMALLEST), _LARGEST)


class AdaptiveGradient(NoisyGradient):
    """Noisy gradients, and a clipping norm that moves with every one of them.

    Parameters
    ----------
    engine : Engine
        Clips to the norm that the mechanism begins with; its norm is moved.
    mechanism : Mechanism
        The noise multiplier that a step is charged with; the gradients get more.
    rule : ClipRule
        How the norm moves.
    generator : numpy.random.Generator, optional
        For tests; by default every step takes fresh ones, keyed by the operating system.

    Raises
    ------
    PrimiaError
        If engine and mechanism disagree on the norm.
    ConfigError
        If counting alone costs what a step may.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        mechanism: Mechanism,
        rule: ClipRule,
        generator: np.random.Generator | None = None,
    ) -> None:
        noise = rule.gradient_noise(mechanism.noise_multiplier)
        noisy = replace(mechanism, noise_multiplier=noise)
        super().__init__(engine, mechanism=noisy, generator=generator)
        self._rule = rule

    def set_gradients(self, micro_batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Give each trainable parameter its noisy gradient, and move the norm for the next step.

        `micro_batches`: as `NoisyGradient.set_gradients` takes them.
        """
        total, norms = measured_total(self._engine, micro_batches)
        self._set(total)
        noisy, now = self._noisy_count(norms), self._mechanism
        moved = self._rule.moved(now.clip_norm, noisy, expected_batch=now.expected_batch)
        self._engine.clip_norm = moved
        self._mechanism = replace(now, clip_norm=moved)

    def _noisy_count(self, norms: NDArray[np.float64]) -> float:
        """Release the sum of centred counts."""
        exact = round(self._rule.centred(norms, self._mechanism.clip_norm) / _GRID)
        noise = rounded_gaussian(1, sigma=self._rule.sigma, generator=self._generator)
        return (exact + int(noise[0])) * _GRID
