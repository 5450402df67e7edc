"""The interval of an area under a ROC curve: DeLong's error, and a bootstrap of how far it misses.

DeLong's interval takes (estimate - truth) / error for standard normal. With few patients of a
class it is not: resamples with an area close to 1 have too small an error as well. Here the
distribution of that ratio comes from a bootstrap of patients, on the scale asin(sqrt(area)), on
which the error depends least on the area. `benchmarks/primia_bench/training/interval_coverage.py`
compares it with DeLong's on the logit scale and with the BCa bootstrap.

Sources: Efron & Tibshirani 1993, sections 12.5 and 12.6 (bootstrap-t on a stabilising scale);
DeLong et al. 1988, Obuchowski 1997 (the error).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.auc import area_and_variance
from primia_flwr.statistics.intervals import (
    RESAMPLES,
    Interval,
    Statistic,
    Strata,
    bootstrap_limits,
)

STUDENTISED = "DeLong, studentised bootstrap of patients"


def class_area_interval(
    scores: FloatArray,
    positive: npt.NDArray[np.bool_],
    strata: Strata,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the area of a score (N,) for positive against other images, with its interval."""
    return _interval(positive[None], scores[None], np.ones(1), strata, rng, resamples)


def weighted_area_interval(
    labels: IntArray,
    probabilities: FloatArray,
    strata: Strata,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the class-weighted one-vs-rest area of `probabilities` (N, C), with its interval.

    Classes without an image are left out. The weights are the classes' shares of the images.
    """
    present, counts = np.unique(labels, return_counts=True)
    positive = labels[None] == present[:, None]
    shares = counts / counts.sum()
    return _interval(positive, probabilities[:, present].T, shares, strata, rng, resamples)


def _interval(
    positive: npt.NDArray[np.bool_],
    scores: FloatArray,
    shares: FloatArray,
    strata: Strata,
    rng: np.random.Generator,
    resamples: int,
) -> Interval:
    """Return the interval of a sum of K areas; arguments as of `area_and_variance`."""
    if not (positive.any(axis=1) & ~positive.all(axis=1)).all():
        return Interval(None, note="no image of a class, or no other; expected both")
    sample = area_and_variance(positive, scores, shares, strata)
    value, variance = (float(row[0]) for row in sample(np.ones((1, strata.size))))
    if (few := _fewest_patients(positive, strata)) < 2:
        return Interval(value, note=f"{few} patient of a class or of the others; expected 2")
    if not 0 < value < 1 or variance <= 0:
        return Interval(value, note=f"an area of {value:g} without variance to be estimated")
    half_a_pair = 0.5 / float((positive.sum(axis=1) * (~positive).sum(axis=1)).max())
    ratio = _ratio(sample, value, half_a_pair)
    _, low, high = bootstrap_limits(
        ratio, strata, rng=rng, resamples=resamples, method="percentile"
    )
    middle, error = _angle(value), math.sqrt(variance) * _slope(value)
    ends = np.clip([middle - high[0] * error, middle - low[0] * error], 0, math.pi / 2)
    if not np.isfinite(ends).all():
        return Interval(value, note="the resamples do not vary enough for an interval")
    lowest, highest = (float(end) for end in np.sin(ends) ** 2)
    return Interval(value, lowest, highest, STUDENTISED)


def _ratio(sample: Statistic, value: float, half_a_pair: float) -> Statistic:
    """Return the function to how many of its own errors a resample's area misses `value`, (1, B).

    An area of 0 or 1 has no error; it is moved by half a pair of images and gets one pair's.
    """

    def statistic(weights: FloatArray) -> FloatArray:
        area, variance = sample(weights)
        area = np.clip(area, half_a_pair, 1 - half_a_pair)
        error = np.sqrt(np.maximum(variance, (2 * half_a_pair) ** 2)) * _slope(area)
        return np.asarray((_angle(area) - _angle(value)) / error)[None, :]

    return statistic


def _fewest_patients(positive: npt.NDArray[np.bool_], strata: Strata) -> int:
    return min(len(np.unique(strata.of[side])) for row in positive for side in (row, ~row))


def _angle(area: npt.ArrayLike) -> FloatArray:
    return np.asarray(np.arcsin(np.sqrt(area)), np.float64)


def _slope(area: npt.ArrayLike) -> FloatArray:
    """Return the derivative of `_angle`."""
    p = np.asarray(area, np.float64)
    return np.asarray(0.5 / np.sqrt(p * (1 - p)))
