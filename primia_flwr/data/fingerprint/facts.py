"""The fingerprint that follows from counts: medians, percentiles, and settings that suit them.

Source: Isensee et al. 2021, nnU-Net, Nature Methods 18:203: the fingerprint, the target spacing
and the intensities at the 0.5th and 99.5th percentile of the labelled voxels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.data.fingerprint.patch import patch_size
from primia_flwr.data.fingerprint.sums import (
    AXES,
    EXTENTS,
    LEVELS,
    SIDE_STEP,
    SPACINGS,
    Counts,
    level_step,
    millimetres,
)

_EDGES = (0.5, 99.5)  # percentiles of intensities
_SPREAD = (10, 50, 90)  # percentiles of lengths
_MULTIPLE = 8  # of an image's side that every U-Net takes
_UNEVEN = 3  # times as far from slice to slice: nnU-Net's anisotropy

_Whole = npt.NDArray[np.int64]


def fingerprint(
    counts: Counts, classes: Sequence[str], levels: tuple[float, float]
) -> dict[str, Any]:
    """Return the fingerprint of volumes, in plain types for JSON.

    Parameters
    ----------
    counts : Counts
        Sums over volumes.
    classes : sequence of str
        Their names, the background first.
    levels : tuple of float
        Intensity of the first and of the last level.
    """
    spacing, extent, sides = (
        {axis: _percentiles(row, of) for axis, row in zip(AXES, rows, strict=True)}
        for rows, of in (
            (counts.spacings, [millimetres(power) for power in SPACINGS]),
            (counts.extents, [millimetres(power) for power in EXTENTS]),
            (counts.sides, [float(SIDE_STEP * i) for i in range(counts.sides.shape[1])]),
        )
    )
    return {
        "cases": counts.cases,
        "spacing_mm": spacing,
        "extent_mm": extent,
        "voxels": sides,
        "intensity": (intensity := _intensities(counts.intensities, levels)),
        "labelled_voxels": {name: int(n) for name, n in zip(classes, counts.classes, strict=True)},
        "suggested": _suggested(spacing, extent, intensity),
    }


def at_percentile(counts: _Whole, percentile: float) -> int | None:
    """Return the bin of the smallest value that so many percent of all do not exceed."""
    total = int(counts.sum())
    if not total:
        return None
    rank = max(math.ceil(percentile * total / 100), 1)
    return int(np.searchsorted(np.cumsum(counts), rank))


def _percentiles(counts: _Whole, values: Sequence[float]) -> dict[str, float]:
    found = {f"p{p}": at_percentile(counts, p) for p in _SPREAD}
    return {name: round(values[bin], 4) for name, bin in found.items() if bin is not None}


def _intensities(counts: _Whole, levels: tuple[float, float]) -> dict[str, float]:
    """Return what is known of the labelled voxels; those beyond the levels count as the ends."""
    total = int(counts.sum())
    if not total:
        return {}
    step = level_step(levels)
    inside = counts[1:-1].copy()
    inside[0] += counts[0]
    inside[-1] += counts[-1]
    places = np.arange(LEVELS)
    # Whole numbers, so that no order of adding counts: 4096^2 times 2^40 voxels has 64 bits.
    first, second = (
        int(sum(int(n) * int(i) ** p for i, n in zip(places, inside, strict=True) if n))
        for p in (1, 2)
    )
    variance = max(total * second - first * first, 0) / total**2
    return {
        "mean": levels[0] + step * first / total,
        "std": step * math.sqrt(variance),
        **{
            name: levels[0] + step * bin
            for name, p in (("p0.5", _EDGES[0]), ("median", 50), ("p99.5", _EDGES[1]))
            if (bin := at_percentile(inside, p)) is not None
        },
        "share_below": int(counts[0]) / total,
        "share_above": int(counts[-1]) / total,
        "step": step,
    }


def _suggested(
    spacing: Mapping[str, Mapping[str, float]],
    extent: Mapping[str, Mapping[str, float]],
    intensity: Mapping[str, float],
) -> dict[str, Any]:
    if not intensity:
        return {}
    target = _target(spacing, extent)
    voxels = {axis: max(round(extent[axis]["p50"] / target[axis]), 1) for axis in AXES}
    patch = patch_size([target[axis] for axis in AXES], [voxels[axis] for axis in AXES])
    side = max(voxels["y"], voxels["x"])
    return {
        "spacing_mm": target,
        "voxels": voxels,
        "patch": dict(zip(AXES, patch, strict=True)),
        "data.volumes.window": [round(intensity["p0.5"], 4), round(intensity["p99.5"], 4)],
        "data.image_size": max(_MULTIPLE, _MULTIPLE * math.ceil(side / _MULTIPLE)),
    }


def _target(
    spacing: Mapping[str, Mapping[str, float]], extent: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return the median distances; of slices far apart the 10th percentile, as nnU-Net does."""
    target = {axis: spacing[axis]["p50"] for axis in AXES}
    worst = max(AXES, key=lambda axis: target[axis])
    others = [axis for axis in AXES if axis != worst]
    size = {axis: extent[axis]["p50"] / target[axis] for axis in AXES}
    far = target[worst] > _UNEVEN * max(target[axis] for axis in others)
    if far and _UNEVEN * size[worst] < min(size[axis] for axis in others):
        least = max(target[axis] for axis in others)
        target[worst] = max(spacing[worst]["p10"], least)
    return target
