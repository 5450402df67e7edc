"""Interval estimates: the patient-wise bootstrap, stratified by class, and Wilson's interval.

Images of one patient resemble each other, so patients are drawn, not images, each with all its
images; and they are drawn within their class, so every resample has the class mixture of the
test set. The intervals are therefore conditional on that mixture.

Sources: Efron 1987 (BCa); Efron & Tibshirani 1993, ch. 14; Wilson 1927. The bootstrap is that of
`scipy.stats.bootstrap`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from primia_flwr.statistics.arrays import FloatArray, IntArray

LEVEL = 0.95
RESAMPLES = 2000
_BOOTSTRAP, _WILSON = "patient-wise BCa bootstrap", "Wilson"
_CELLS_AT_A_TIME = 2_000_000

Statistic = Callable[[FloatArray], FloatArray]
"""From weights of the patients, (B, P), to S figures of each of the B samples, (S, B)."""


@dataclass(frozen=True)
class Interval:
    """A figure with the limits of its 95 % interval.

    `value` is None where the figure is not defined, `low` and `high` where there is no interval;
    `note` then says why. `method` names how the limits were found.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Strata:
    """Which patient every image is of, and which patients are drawn from the same urn.

    `of` (N,) is the patient's index of each image, `size` the number of patients, and `groups`
    hold the patients of each class: the class of most of a patient's images, the lower index on
    a tie.
    """

    of: IntArray
    size: int
    groups: tuple[IntArray, ...]

    @classmethod
    def by_class(cls, patients: Sequence[str], labels: IntArray) -> Strata:
        """Group the patients of N images, `labels` (N,), by their class."""
        names, of = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
        votes = np.zeros((len(names), int(labels.max()) + 1), np.int64)
        np.add.at(votes, (of, labels), 1)
        classes = votes.argmax(axis=1)
        groups = tuple(np.flatnonzero(classes == k) for k in np.unique(classes))
        return cls(of.astype(np.int64), len(names), groups)


def bootstrap_limits(
    statistic: Statistic,
    strata: Strata,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    method: str = "BCa",
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return values, lower and upper limits, each (S,); limits are NaN where there are none.

    Parameters
    ----------
    statistic : callable
        Given weights (B, P), integers of at least 0: how often each patient is in a sample.
    strata : Strata
        A class with a single patient cannot be resampled; that patient is in every sample.
    rng : numpy.random.Generator
        Draws the patients.
    resamples : int
        Samples drawn.
    level : float
        Nominal coverage, in (0, 1).
    method : str
        BCa or percentile, as of `scipy.stats.bootstrap`.
    """
    from scipy.stats import bootstrap  # heavy, and most who name an interval compute none

    drawn = [group for group in strata.groups if len(group) > 1]
    fixed = np.zeros(strata.size)
    fixed[[group[0] for group in strata.groups if len(group) == 1]] = 1
    value = statistic(np.ones((1, strata.size)))[:, 0]
    if not drawn:
        return value, np.full_like(value, math.nan), np.full_like(value, math.nan)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a figure that never varies has no BCa interval: NaN
        result = bootstrap(
            drawn,
            _of_samples(statistic, strata.size, fixed),
            n_resamples=resamples,
            batch=max(1, _CELLS_AT_A_TIME // strata.size),
            vectorized=True,
            confidence_level=level,
            method=method,
            rng=rng,
        )
    limits = result.confidence_interval
    return value, np.asarray(limits.low), np.asarray(limits.high)


def _of_samples(statistic: Statistic, size: int, fixed: FloatArray) -> Callable[..., FloatArray]:
    """Return the statistic as scipy asks for it: of drawn indices, one array of them a stratum."""

    def of_samples(*samples: IntArray, axis: int = -1) -> FloatArray:
        lead = np.broadcast_shapes(*(sample.shape[:-1] for sample in samples))
        rows = [np.broadcast_to(sample, (*lead, sample.shape[-1])) for sample in samples]
        index = np.concatenate(rows, axis=-1).reshape(math.prod(lead), -1)
        figures = statistic(_counts(index, size) + fixed)
        return figures.reshape(len(figures), *lead)

    return of_samples


def stacked(statistics: Sequence[Statistic]) -> Statistic:
    """Return one statistic with the rows of all."""
    return lambda weights: np.concatenate([statistic(weights) for statistic in statistics])


def bootstrapped(row: FloatArray, *, patients: int, rate: bool, undefined: str = "") -> Interval:
    """Return the interval of one figure from (value, low, high).

    A rate of exactly 0 or 1 never varies among resamples and has Wilson's interval instead,
    each of `patients` counted once; a coefficient that never varies has none.
    """
    value, low, high = (float(one) for one in row)
    if math.isnan(value):
        return Interval(None, note=undefined or "not defined on these images")
    if rate and value in (0.0, 1.0):
        low, high = wilson(value * patients, patients)
        return Interval(value, low, high, _WILSON, "no resample differs; one count a patient")
    if math.isnan(low) or math.isnan(high):
        return Interval(value, note="the resamples do not vary enough for an interval")
    return Interval(value, low, high, _BOOTSTRAP)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return the limits of Wilson's 95 % interval of a proportion, n > 0."""
    from scipy.special import ndtri

    z, share = float(ndtri((1 + LEVEL) / 2)), successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    widest = 1 + z * z / n
    return max(0.0, (centre - half) / widest), min(1.0, (centre + half) / widest)


def _counts(index: IntArray, size: int) -> FloatArray:
    """Return how often each of `size` patients stands in each row of `index` (B, n)."""
    offset = np.arange(len(index), dtype=np.int64)[:, None] * size
    counts = np.bincount((index + offset).ravel(), minlength=len(index) * size)
    return counts.reshape(len(index), size).astype(np.float64)
