"""Sums that sites send so that the federation knows pixel statistics and class counts.

Mean and standard deviation of the pooled pixels follow from counts, sums and sums of squares,
so the variance between sites is included. Sums of 8-bit pixels are exact integers up to the
division by 255.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.data.size_bins import NUM_SIDE_BINS, SIDE_EDGES
from primia_flwr.errors import DataError, ProtocolError

_AT_ONCE = 64


@dataclass(frozen=True)
class PixelSums:
    """Sums over images, of pixels scaled to [0, 1].

    Attributes
    ----------
    count
        Pixels of one channel over all images.
    total, total_squares
        Sum and sum of squares of every channel: (C,).
    label_counts
        Images of every class.
    side_counts
        Images by shorter side as stored, below and from each of `SIDE_EDGES`; (7,).
    volume_counts
        The `vector` of `fingerprint.sums.Counts`; empty where volumes are not counted.
    """

    count: float
    total: tuple[float, ...]
    total_squares: tuple[float, ...]
    label_counts: tuple[float, ...]
    side_counts: tuple[float, ...] = (0.0,) * NUM_SIDE_BINS
    volume_counts: tuple[float, ...] = ()

    @classmethod
    def of(cls, data: LabelledImages) -> "PixelSums":
        """Sum over labelled images, a few at a time."""
        levels = np.arange(256, dtype=np.int64)
        histograms = _histograms(data)
        return cls(
            float(histograms[0].sum()),
            tuple(float(int(h @ levels) / 255) for h in histograms),
            tuple(float(int(h @ levels**2) / 255**2) for h in histograms),
            tuple(float(n) for n in data.label_counts()),
            _side_counts(data.sides),
        )

    @classmethod
    def merge(cls, sums: Iterable["PixelSums"]) -> "PixelSums":
        """Add up the sums of several sites, in any order (exactly rounded).

        Raises
        ------
        ProtocolError
            If there are none, or they differ in channels or classes.
        """
        parts = list(sums)
        shapes = {
            (len(p.total), len(p.total_squares), len(p.label_counts), len(p.volume_counts))
            for p in parts
        }
        if len(shapes) != 1:
            raise ProtocolError(
                f"pixel sums of {len(parts)} site(s) have the shapes {sorted(shapes)}; expected "
                "the same channels, classes and counts of volumes from each of at least one site"
            )
        return cls(
            math.fsum(part.count for part in parts),
            _column_sums(part.total for part in parts),
            _column_sums(part.total_squares for part in parts),
            _column_sums(part.label_counts for part in parts),
            _column_sums(part.side_counts for part in parts),
            _column_sums(part.volume_counts for part in parts),
        )

    def mean(self) -> tuple[float, ...]:
        """Compute the mean of every channel.

        Raises
        ------
        DataError
            If there are no pixels.
        """
        if self.count <= 0:
            raise DataError("pixel statistics over 0 pixels; expected at least one image")
        return tuple(total / self.count for total in self.total)

    def std(self) -> tuple[float, ...]:
        """Compute the population standard deviation of every channel (numpy's `std`, ddof 0)."""
        pairs = zip(self.total_squares, self.mean(), strict=True)
        return tuple(math.sqrt(max(square / self.count - m * m, 0.0)) for square, m in pairs)

    def alike(self) -> "PixelSums":
        """Return sums whose channels are alike, each the mean of all: slices of a volume are."""
        channels = len(self.total)
        total, squares = (math.fsum(sums) / channels for sums in (self.total, self.total_squares))
        return replace(self, total=(total,) * channels, total_squares=(squares,) * channels)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists of floats, for a message."""
        return {
            "count": [self.count],
            "total": list(self.total),
            "total_squares": list(self.total_squares),
            "label_counts": list(self.label_counts),
            "side_counts": list(self.side_counts),
            **({"volume_counts": list(self.volume_counts)} if self.volume_counts else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Iterable[float]]) -> "PixelSums":
        """Read what `to_dict` made, from a site that may be wrong.

        Raises
        ------
        ProtocolError
            If a list is missing, or a number is negative, infinite, NaN or impossible.
        """
        try:
            lists = {key: tuple(float(v) for v in values[key]) for key in _KEYS}
            volumes = tuple(float(v) for v in values.get("volume_counts", ()))
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"pixel sums lack {error}; expected the lists {_KEYS}") from error
        sums = cls(sum(lists["count"]), *(lists[key] for key in _KEYS[1:]))
        sums = replace(sums, volume_counts=volumes)
        sums._check(lists)
        return sums

    def _check(self, lists: Mapping[str, tuple[float, ...]]) -> None:
        numbers = [*self.volume_counts, *(one for values in lists.values() for one in values)]
        finite = all(math.isfinite(number) and number >= 0 for number in numbers)
        shaped = len(lists["count"]) == 1 and 0 < len(self.total) == len(self.total_squares)
        slack = 1e-9 * max(self.count, 1)
        possible = all(total <= self.count + slack for total in (*self.total, *self.total_squares))
        binned = len(self.side_counts) == NUM_SIDE_BINS
        if not (finite and shaped and possible and binned and self.label_counts):
            raise ProtocolError(
                f"pixel sums {dict(lists)}; expected finite, non-negative numbers, one count, as "
                f"many totals as squares, none above the count, {NUM_SIDE_BINS} bins of sides"
            )


_KEYS = ("count", "total", "total_squares", "label_counts", "side_counts")


def _side_counts(sides: Iterable[int]) -> tuple[float, ...]:
    bins = np.searchsorted(SIDE_EDGES, np.array(list(sides), dtype=np.int64), side="right")
    return tuple(float(n) for n in np.bincount(bins, minlength=NUM_SIDE_BINS))


def _histograms(data: LabelledImages) -> npt.NDArray[np.int64]:
    """How often each grey level occurs in each channel: (C, 256) int64."""
    channels = data.images.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(data), _AT_ONCE):
        block = data.images[start : start + _AT_ONCE].numpy()
        for channel in range(channels):
            counts[channel] += np.bincount(block[:, channel].reshape(-1), minlength=256)
    return counts


def _column_sums(rows: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(math.fsum(column) for column in zip(*rows, strict=True))
