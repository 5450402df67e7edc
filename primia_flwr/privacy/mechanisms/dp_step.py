"""One noisy gradient: clip, sum, put on the grid, add integer noise, divide by the expected batch.

Neighbouring data sets differ in one unit that is zeroed out: where it is drawn, it adds zero to the
sum. Their number of units is the same, and public. What a step gives away is one vector:

    (round(sum of clipped gradients / grid step) + noise) * grid step / expected batch

with noise a Gaussian of standard deviation noise_multiplier * sensitivity / grid step, rounded to
integers. To the accountant it is the Gaussian mechanism with that multiplier, on units drawn with
a public rate (Poisson sampling); everything that an optimiser, an average or a schedule does with
it is post-processing.

Sensitivity, in Euclidean norm, of the sum on the grid when one unit is zeroed out:

- clip_norm, the clipped gradient itself;
- clip_norm 2^-10, allowed for floating point: the engines clip and add up in float32, where one
  unit also changes how the others' sum is rounded. For 32 units of a ResNet-18 the error is
  below clip_norm 2^-14 (tests/privacy/mechanisms/test_dp_step.py). Measured, not proven. It grows
  with the units of a micro-batch, so keep these to hundreds; micro-batches are added up in float64.
- grid step * sqrt(entries): both sums are rounded, each entry of each by at most half a step.

With grid step = clip_norm 2^-20 that makes the noise of a ResNet-18 (11.2 million entries)
0.42 % larger than clip_norm alone would.

The batch's size is not given away: the divisor is its expectation, and an empty batch gives noise
alone. What is not hidden is time: a step over more units takes longer.

Source: Abadi et al. 2016, Deep Learning with Differential Privacy, Algorithm 1; Mironov 2012, On
Significance of the Least Significant Bits for Differential Privacy.
"""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from primia_flwr.config.checks import check_range
from primia_flwr.errors import PrimiaError
from primia_flwr.privacy.clipping.engine import Engine
from primia_flwr.privacy.mechanisms.noise import FLOAT_ALLOWANCE, rounded_gaussian

_GRID_BITS = 20
_PART = 1 << 20  # entries


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """The public numbers of a step.

    Parameters
    ----------
    clip_norm : float
        Largest Euclidean norm of a unit's gradient, above 0.
    noise_multiplier : float
        Standard deviation of the noise over the sensitivity, above 0.
    expected_batch : float
        Units that a step draws on average: sampling rate times the public number of units; above 0.
    grid_bits : int
        The grid's step is clip_norm / 2^grid_bits; 10 to 30.

    Raises
    ------
    ConfigError
        If one is out of range.
    """

    clip_norm: float
    noise_multiplier: float
    expected_batch: float
    grid_bits: int = _GRID_BITS

    def __post_init__(self) -> None:
        check_range("clip_norm", self.clip_norm, 0, example=1.0, open_low=True)
        check_range("noise_multiplier", self.noise_multiplier, 0, 1e6, example=1.0, open_low=True)
        check_range("expected_batch", self.expected_batch, 0, 1e9, example=256, open_low=True)
        check_range("grid_bits", self.grid_bits, 10, 30, example=_GRID_BITS)

    @property
    def grid_step(self) -> float:
        """The value of the integer 1."""
        return math.ldexp(self.clip_norm, -self.grid_bits)

    def sensitivity(self, entries: int) -> float:
        """Return how far one unit can move the sum of so many entries on the grid."""
        return self.clip_norm * (1 + FLOAT_ALLOWANCE) + self.grid_step * math.sqrt(entries)

    def sigma(self, entries: int) -> float:
        """Return the standard deviation of the noise on the sum, in grid steps."""
        return self.noise_multiplier * self.sensitivity(entries) / self.grid_step


class NoisyGradient:
    """The only way out for what an engine makes: noisy gradients, and nothing else.

    Parameters
    ----------
    engine : Engine
        Clips to the norm that the mechanism counts on.
    mechanism : Mechanism
        How much noise.
    generator : numpy.random.Generator, optional
        For tests; by default every step takes a fresh one, keyed by the operating system.

    Raises
    ------
    PrimiaError
        If engine and mechanism disagree on the norm.
    """

    def __init__(
        self, engine: Engine, *, mechanism: Mechanism, generator: np.random.Generator | None = None
    ) -> None:
        if engine.clip_norm != mechanism.clip_norm:
            raise PrimiaError(
                f"the engine clips to {engine.clip_norm}, the noise is for {mechanism.clip_norm}; "
                "expected the same norm"
            )
        self._engine = engine
        self._mechanism = mechanism
        self._generator = generator
        self._entries = sum(parameter.numel() for parameter in engine.parameters)

    @property
    def clip_norm(self) -> float:
        """The norm to which the next step clips: public."""
        return self._mechanism.clip_norm

    def set_gradients(self, micro_batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Give each trainable parameter its noisy gradient, for an optimiser to step with.

        Parameters
        ----------
        micro_batches : iterable of (images, targets)
            The units that one step drew, each once, cut into parts of whole units that fit the
            memory; none for an empty batch. How they are cut changes the result by rounding alone.
        """
        self._set(clipped_total(self._engine, micro_batches))

    def _set(self, total: NDArray[np.float64]) -> None:
        """Release a sum: into the parameters' gradients, noisy and divided."""
        noisy = self._noisy(total)
        parameters = self._engine.parameters
        whole = torch.from_numpy(noisy).to(parameters[0].device)  # to a GPU in one piece
        parts = torch.split(whole, [parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))

    def _noisy(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Make the noisy mean in place, part by part; each part has noise under its own key."""
        parts = [total[at : at + _PART] for at in range(0, total.size, _PART)]
        threads = 1 if self._generator else torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._release, parts))
        return total

    def _release(self, part: NDArray[np.float64]) -> None:
        """Put a part of the sum on the grid, add the noise, divide."""
        step, sigma = self._mechanism.grid_step, self._mechanism.sigma(self._entries)
        np.rint(np.divide(part, step, out=part), out=part)
        noise = rounded_gaussian(part.size, sigma=sigma, generator=self._generator)
        noise += part.astype(np.int64)
        np.multiply(noise, step / self._mechanism.expected_batch, out=part)


def clipped_total(
    engine: Engine, micro_batches: Iterable[tuple[Tensor, Tensor]]
) -> NDArray[np.float64]:
    """Return the sum of the units' clipped gradients, (entries,), before any noise: a secret."""
    return measured_total(engine, micro_batches)[0]


def measured_total(
    engine: Engine, micro_batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum as `clipped_total`, and the units' norms, (units,): both are secrets.

    Engines give finite sums. Should one not, there is a zero: an error would tell.
    """
    total = np.zeros(sum(parameter.numel() for parameter in engine.parameters), np.float64)
    norms = [np.zeros(0, np.float64)]
    for images, targets in micro_batches:
        found, of_units = engine.measured_sum(images, targets)
        parts = [part.detach().reshape(-1) for part in found]
        total += torch.cat(parts).cpu().numpy()  # from a GPU in one piece
        norms.append(of_units.cpu().numpy())
    if not np.isfinite(total).all():
        total[:] = 0
    return total, np.concatenate(norms)
