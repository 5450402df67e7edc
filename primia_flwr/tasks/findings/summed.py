"""What counts of scores that sites summed say of a model, finding by finding, by image.

Nothing is known of single patients, so each image counts as if it were a patient of its own: where
patients have several, the intervals are too short. The area's interval is widened at both ends by
the largest error that the bins allow.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.intervals import LEVEL, Interval, wilson
from primia_flwr.tasks.findings.counts import areas_of, confusion_of
from primia_flwr.tasks.task import mean_or

_WILSON, _AREA = "Wilson, by image", "DeLong by image, and the bins' largest error"
_NONE = "no image in which it is present, or none in which it is absent"


def summed_figures(scores: npt.NDArray[np.int64]) -> list[tuple[Interval, Interval, Interval]]:
    """Return area, sensitivity and specificity of each finding; `scores` (F, 2, BINS)."""
    areas, errors = areas_of(scores)
    found = []
    for of, area, error in zip(scores, areas.tolist(), errors.tolist(), strict=True):
        (right, wrong), (missed, hit) = confusion_of(of).tolist()
        found.append(
            (_area(of, area, error), _rate(hit, hit + missed), _rate(right, right + wrong))
        )
    return found


def summed_mean(scores: npt.NDArray[np.int64]) -> Interval:
    """Return the mean area over findings, with the largest error that the bins allow."""
    areas, errors = areas_of(scores)
    if np.isnan(areas).all():
        return Interval(None, note=_NONE)
    area, error = mean_or(areas, 0.5), mean_or(errors, 0.0)
    low, high = max(0.0, area - error), min(1.0, area + error)
    return Interval(area, low, high, "the bins' largest error alone")


def _area(scores: npt.NDArray[np.int64], area: float, error: float) -> Interval:
    if math.isnan(area):
        return Interval(None, note=_NONE)
    absent, present = scores.astype(np.float64)
    m, n = present.sum(), absent.sum()
    if min(m, n) < 2:
        return Interval(area, note="one image of a label; expected 2")
    below = (absent.cumsum() - absent / 2) / n
    above = (m - present.cumsum() + present / 2) / m
    variance = _variance(below, present) / m + _variance(above, absent) / n
    reach = float(ndtri((1 + LEVEL) / 2)) * math.sqrt(variance) + error
    return Interval(area, max(0.0, area - reach), min(1.0, area + reach), _AREA)


def _variance(values: FloatArray, counts: FloatArray) -> float:
    """Return the sample variance of values that occur `counts` times, at least 2 in all."""
    mean = (values * counts).sum() / counts.sum()
    return float(((values - mean) ** 2 * counts).sum() / (counts.sum() - 1))


def _rate(right: int, images: int) -> Interval:
    if not images:
        return Interval(None, note="no image of this label")
    return Interval(right / images, *wilson(right, images), _WILSON)
