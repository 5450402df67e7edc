"""Whole numbers that a volume adds to its site's sums: counts in bins that are the same everywhere.

Sums of whole numbers are the same in any order, so a federation's are those of all volumes in one
place, bit for bit. Lengths are compared as whole micrometres, so that no machine rounds otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

AXES = ("z", "y", "x")
STEP = 1.02  # from a bin of lengths to the next
SPACINGS = range(-151, 199)  # powers of STEP: 0.05 to 50 mm
EXTENTS = range(384)  # powers of STEP: 1 to 1,968 mm
SIDE_STEP = 8  # voxels
SIDES = range(257)  # multiples of SIDE_STEP: to 2,048 voxels
LEVELS = 4096  # of intensities, from the least to the most
_MOST = 2**53  # what a float64 tells from the next whole number
_MICROMETRES = 1000  # in a millimetre

_Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """What volumes add up to.

    Attributes
    ----------
    cases
        Volumes.
    spacings, sides, extents
        Volumes by distance of voxels, by voxels and by length of the part that is not zero: each
        (3, bins) along z, y, x.
    intensities
        Voxels that are labelled with more than the background: below the least level, at each
        level, above the last one; (LEVELS + 2,).
    classes
        Voxels of each class; (classes,).
    """

    cases: int
    spacings: _Whole
    sides: _Whole
    extents: _Whole
    intensities: _Whole
    classes: _Whole

    def vector(self) -> list[int]:
        """Return all numbers in a row."""
        parts = (self.spacings, self.sides, self.extents, self.intensities, self.classes)
        return [self.cases, *(int(n) for part in parts for n in part.reshape(-1))]

    @classmethod
    def read(cls, vector: Sequence[float]) -> "Counts":
        """Read what `vector` made, or sums of such.

        Raises
        ------
        ValueError
            If it is too short, or its numbers are no counts of volumes; it says which.
        """
        if len(vector) < length(2):
            raise ValueError(f"{len(vector)} numbers; expected at least {length(2)}")
        numbers = np.array(vector, np.float64)
        if not ((np.abs(numbers) <= _MOST).all() and (numbers == np.rint(numbers)).all()):
            raise ValueError(f"numbers that are no counts; expected whole ones up to {_MOST}")
        whole = numbers.astype(np.int64)
        ends = np.cumsum([1, *(int(np.prod(shape)) for shape in _SHAPES)])
        cases, *parts, classes = np.split(whole, ends)
        spacings, sides, extents, intensities = (
            part.reshape(shape) for part, shape in zip(parts, _SHAPES, strict=True)
        )
        found = cls(int(cases[0]), spacings, sides, extents, intensities, classes)
        found._check(whole)
        return found

    def _check(self, whole: _Whole) -> None:
        if whole.min() < 0:
            raise ValueError(f"a count of {whole.min()}; expected 0 or more")
        for name in ("spacings", "sides", "extents"):
            for axis, bins in zip(AXES, getattr(self, name), strict=True):
                if bins.sum() != self.cases:
                    raise ValueError(
                        f"{bins.sum()} {name} along {axis} of {self.cases} volume(s); expected as "
                        "many"
                    )
        inside, labelled = int(self.intensities.sum()), int(self.classes[1:].sum())
        if inside != labelled:
            raise ValueError(f"{inside} intensities of {labelled} labelled voxels; expected each")


_SHAPES = ((3, len(SPACINGS)), (3, len(SIDES)), (3, len(EXTENTS)), (LEVELS + 2,))


def length(classes: int) -> int:
    """Return how many numbers `Counts.vector` has."""
    return 1 + sum(int(np.prod(shape)) for shape in _SHAPES) + classes


def counts_of(
    values: npt.NDArray[np.float32],
    classes: npt.NDArray[np.uint8],
    spacing: Sequence[float],
    *,
    outputs: int,
    levels: tuple[float, float],
) -> Counts:
    """Count one volume.

    Parameters
    ----------
    values : ndarray
        (Z, H, W) intensities.
    classes : ndarray
        (Z, H, W) class of each voxel, 0 for the background.
    spacing : sequence of float
        Millimetres between voxels along z, y, x.
    outputs : int
        The background among them.
    levels : tuple of float
        Intensity of the first and of the last level.
    """
    sides = _sides_that_are_not_zero(values)
    gaps = [round(_MICROMETRES * mm) for mm in spacing]
    lengths = [side * gap for side, gap in zip(sides, gaps, strict=True)]
    return Counts(
        cases=1,
        spacings=_by_length(gaps, SPACINGS),
        sides=_ones([round(side / SIDE_STEP) for side in sides], len(SIDES)),
        extents=_by_length(lengths, EXTENTS),
        intensities=_by_level(values[classes > 0], levels),
        classes=np.bincount(classes.reshape(-1), minlength=outputs).astype(np.int64),
    )


def level_step(levels: tuple[float, float]) -> float:
    """Return how far one level of intensities is from the next."""
    return (levels[1] - levels[0]) / (LEVELS - 1)


def millimetres(power: float) -> float:
    """Return the middle of a bin of lengths."""
    return float(STEP**power)


def _sides_that_are_not_zero(values: npt.NDArray[np.float32]) -> list[int]:
    """Return the sides of the smallest box that has all voxels but zeros; of nothing else, all."""
    seen = values != 0
    if not seen.any():
        return list(values.shape)
    places = (np.flatnonzero(seen.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    return [int(place[-1] - place[0]) + 1 for place in places]


@cache
def _edges(powers: range) -> tuple[int, ...]:
    """Return where each bin of lengths but the first begins, in micrometres."""
    return tuple(round(_MICROMETRES * millimetres(power - 0.5)) for power in powers[1:])


def _by_length(micrometres: Sequence[int], powers: range) -> _Whole:
    bins = np.searchsorted(_edges(powers), np.array(micrometres, np.int64), side="right")
    return _ones(bins.tolist(), len(powers))


def _ones(bins: Sequence[int], size: int) -> _Whole:
    """Return a row for each axis with a 1 in its bin, the last one for what is larger."""
    rows = np.zeros((len(bins), size), np.int64)
    rows[range(len(bins)), [min(one, size - 1) for one in bins]] = 1
    return rows


def _by_level(values: npt.NDArray[np.float32], levels: tuple[float, float]) -> _Whole:
    """Count intensities by the nearest level, and those before the first and behind the last."""
    nearest = np.rint((values.astype(np.float64) - levels[0]) / level_step(levels))
    bins = np.clip(nearest, -1, LEVELS).astype(np.int64) + 1
    return np.bincount(bins, minlength=LEVELS + 2).astype(np.int64)
