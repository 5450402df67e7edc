"""The patch that suits a spacing and a size: its proportions are those of a cube in millimetres.

Source: Isensee et al. 2021, nnU-Net, Nature Methods 18:203, and its default planner. Where that
estimates the memory of its own network, here a patch has at most `MOST_VOXELS`.
"""

import math
from collections.abc import Sequence

MOST_VOXELS = 128**3
_FIRST = 256**3  # voxels to begin with: more than are wanted
_LEAST = 4  # voxels of a side at the bottom of the network
_APART = 2  # times as large a spacing: such an axis is not halved yet


def patch_size(spacing: Sequence[float], shape: Sequence[int]) -> list[int]:
    """Return the voxels of a patch along each axis.

    Parameters
    ----------
    spacing : sequence of float
        Millimetres between voxels along each axis, above 0.
    shape : sequence of int
        Voxels of a typical volume along each axis, 1 or more.
    """
    volume = math.prod(spacing)
    first = [round((_FIRST * volume) ** (1 / len(spacing)) / mm) for mm in spacing]
    least = [max(min(pair), 1) for pair in zip(first, shape, strict=True)]
    steps = _steps(spacing, least)
    sides = _padded(least, steps)
    while math.prod(sides) > MOST_VOXELS:
        thick = [axis for axis, side in enumerate(sides) if side > 1]
        axis = max(thick, key=lambda i: (sides[i] / shape[i], i))
        # The step of the smaller patch may be finer, and is then the one to take.
        smaller = _less(sides, axis, steps[axis])
        least = _less(sides, axis, _steps(spacing, smaller)[axis])
        steps = _steps(spacing, least)
        padded = _padded(least, steps)
        if math.prod(padded) >= math.prod(sides):  # padding may take back what was cut
            padded = _less(sides, axis, sides[axis] // 2)
            steps = _steps(spacing, padded)
        sides = padded
    return sides


def _less(sides: Sequence[int], axis: int, step: int) -> list[int]:
    return [max(side - step * (i == axis), 1) for i, side in enumerate(sides)]


def _padded(sides: Sequence[int], steps: Sequence[int]) -> list[int]:
    """Return the sides as the next multiples of the steps."""
    return [step * math.ceil(side / step) for side, step in zip(sides, steps, strict=True)]


def _steps(spacing: Sequence[float], sides: Sequence[int]) -> list[int]:
    """Return the power of two by which a network halves each side, the closest voxels first."""
    gaps, left, steps = list(spacing), list(sides), [1] * len(sides)
    while axes := _halved(gaps, left):
        for axis in axes:
            gaps[axis], left[axis] = gaps[axis] * 2, math.ceil(left[axis] / 2)
            steps[axis] *= 2
    return steps


def _halved(gaps: Sequence[float], left: Sequence[int]) -> list[int]:
    """Return the axes that are halved next; none at the bottom of the network."""
    large = [axis for axis, side in enumerate(left) if side >= 2 * _LEAST]
    if not large:
        return []
    least = min(gaps[axis] for axis in large)
    axes = [axis for axis in large if gaps[axis] / least < _APART]
    alone = len(axes) == 1 and left[axes[0]] < 3 * _LEAST
    return [] if alone else axes
