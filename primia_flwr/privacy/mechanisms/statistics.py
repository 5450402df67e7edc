"""Pixel statistics and class counts with noise, by unit of privacy, with fixed sensitivities.

Each unit contributes the mean of its pixels and of their squares in each channel, and the shares
of its images in each class: numbers in [0, 1] whatever the images are. With C channels one unit
more or less moves the vector of sums by at most sqrt(2 C + 1) in L2, because the shares of the
classes have an L2 norm of at most 1. A patient of twenty images counts as much as one of one.
Labels that are no classes are given as rows of that norm.

Each unit's numbers are put on a grid of 2^-8 before they are added up, so the sums are integers; on
the grid a unit moves them by at most sqrt(2 C + 1) 2^8 + sqrt(entries) / 2. The noise is the exact
discrete Gaussian; `noise_multiplier` is its standard deviation over that, a little rounded up.

What is rounded up makes it post-processing of continuous Gaussian noise, so that its privacy loss
is, too: continuous noise of variance v, then a discrete Gaussian of variance 9 around what came
out, is a discrete Gaussian of variance v + 9, but for a part below e^-170 (Peikert 2010, An
Efficient and Parallel Gaussian Sampler for Lattices, Theorem 3.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.events import Gaussian
from primia_flwr.privacy.mechanisms.noise import discrete_gaussian
from primia_flwr.privacy.mechanisms.units import Units

GRID_BITS = 8
_SMOOTHING = 9
_ROUNDING = 1e-12
_LARGEST_NOISE = 10.0  # at which the exact sampler's arithmetic fits three channels


@dataclass(frozen=True)
class UnitSums:
    """Sums over units: means of pixels in [0, 1], (C,), of their squares, and shares of classes."""

    units: int
    levels: tuple[float, ...]
    squares: tuple[float, ...]
    classes: tuple[float, ...]


def sensitivity(channels: int, classes: int) -> float:
    """Return how far one unit can move the sums, in grid steps."""
    entries = 2 * channels + classes
    return math.sqrt(2 * channels + 1) * 2.0**GRID_BITS + math.sqrt(entries) / 2


def noisy_sums(
    images: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.float64],
    units: Units,
    *,
    outputs: int,
    noise_multiplier: float,
    generator: np.random.Generator | None = None,
) -> UnitSums:
    """Return the sums with noise, cut to what sums can be.

    Parameters
    ----------
    images : ndarray
        (N, C, H, W) uint8.
    labels : sequence of int, or ndarray
        (N,), below `outputs`; or rows (N, outputs) of at least 0 with an L2 norm of at most 1.
    units : Units
        Which images belong together.
    noise_multiplier : float
        In (0, 10].
    generator : numpy.random.Generator, optional
        For tests; by default a fresh one, keyed by the operating system.

    Raises
    ------
    ConfigError
        If the noise multiplier is out of range, or a row of labels is too long for the noise.
    """
    check_range("noise_multiplier", noise_multiplier, 0, _LARGEST_NOISE, example=3, open_low=True)
    exact = _on_grid(images, labels, units, outputs)
    channels = images.shape[1]
    sigma = noise_multiplier * sensitivity(channels, outputs)
    variance = Fraction(math.ceil(sigma**2) + _SMOOTHING)  # never less than what is charged
    noise = discrete_gaussian(exact.size, variance=variance, generator=generator)
    values = np.clip((exact + noise) / 2.0**GRID_BITS, 0, len(units)).tolist()
    return UnitSums(
        len(units),
        tuple(values[:channels]),
        tuple(values[channels : 2 * channels]),
        tuple(values[2 * channels :]),
    )


def cost(noise_multiplier: float) -> Gaussian:
    """Return what the sums cost: one Gaussian."""
    return Gaussian(noise_multiplier=noise_multiplier)


def _rows(labels: Sequence[int] | NDArray[np.float64], outputs: int) -> NDArray[np.float64]:
    """Return what each image adds to the shares, (N, outputs), with a norm of at most 1."""
    given = np.asarray(labels)
    rows: NDArray[np.float64] = np.eye(outputs)[given] if given.ndim == 1 else given
    norms = np.linalg.norm(rows, axis=1)
    if rows.shape[1:] != (outputs,) or not (norms <= 1 + _ROUNDING).all() or (rows < 0).any():
        raise ConfigError(
            f"labels: rows {rows.shape} with a norm of up to {norms.max(initial=0):g}; expected "
            f"{outputs} numbers of at least 0 and a norm of at most 1, which the noise hides"
        )
    return rows


def _on_grid(
    images: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.float64],
    units: Units,
    outputs: int,
) -> NDArray[np.int64]:
    """Return the exact sums over units of their rounded vectors, (2 C + outputs,) int64."""
    rows, channels = _rows(labels, outputs), images.shape[1]
    total = np.zeros(2 * channels + outputs, np.int64)
    for unit in range(len(units)):
        own = units.images[units.starts[unit] : units.starts[unit + 1]]
        pixels = images[own].astype(np.float64) / 255
        shares = rows[own].mean(axis=0)
        vector = [*pixels.mean(axis=(0, 2, 3)), *(pixels**2).mean(axis=(0, 2, 3)), *shares]
        total += np.rint(np.array(vector) * 2**GRID_BITS).astype(np.int64)
    return total
