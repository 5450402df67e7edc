"""How well scores tell members from non-members: ROC, rates at few false alarms, intervals.

An attack on privacy matters if it is right about some patients for certain, so the figure to look
at is the true positive rate at a false positive rate of 1 % or 0.1 %, not the average over all
thresholds (Carlini et al. 2022, section IV-A).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap
from sklearn import metrics as sk

from primia_flwr.attacks.membership.confidence import FloatArray
from primia_flwr.attacks.membership.lira import BoolArray
from primia_flwr.errors import DataError

_FALSE_POSITIVE_RATES = (0.01, 0.001)
_LEVEL = 0.95
_RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, NaN where one side has a single patient."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return plain types for JSON, six digits; None for NaN."""
        values = {key: getattr(self, key) for key in ("value", "low", "high")}
        return {key: None if math.isnan(v) else round(v, 6) for key, v in values.items()}


@dataclass(frozen=True)
class Detection:
    """What one attack achieves against `members` and `non_members` (counts of its units).

    `auc`: area under the ROC curve. `tpr_at`: true positive rate at each false positive rate, None
    where there are fewer non-members than one over it. `balanced_accuracy` and `advantage`
    (TPR - FPR, Yeom et al. 2018, definition 4) at the best threshold, chosen with the truth, so
    that both are optimistic for the attacker. `fpr`, `tpr`: the curve.
    """

    members: int
    non_members: int
    auc: Estimate
    tpr_at: dict[float, Estimate | None]
    balanced_accuracy: float
    advantage: float
    fpr: FloatArray
    tpr: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, without the curve."""
        return {
            "members": self.members,
            "non_members": self.non_members,
            "auc": self.auc.to_dict(),
            "tpr_at_fpr": {
                f"{rate:g}": None if found is None else found.to_dict()
                for rate, found in self.tpr_at.items()
            },
            "best_balanced_accuracy": round(self.balanced_accuracy, 6),
            "best_advantage": round(self.advantage, 6),
        }


def detect(
    scores: FloatArray, member: BoolArray, patients: Sequence[str], *, seed: int
) -> Detection:
    """Judge scores; the intervals resample patients, members and non-members apart.

    Parameters
    ----------
    scores : (N,) float64
        Larger speaks for membership; finite.
    member : (N,) bool
        The truth.
    patients : sequence of N
        Whose image it is; no patient is both.
    seed : int
        Of the bootstrap (percentile intervals, 1,000 resamples).

    Raises
    ------
    DataError
        If there are no members or no non-members, or a score is not finite.
    """
    if member.all() or not member.any():
        raise DataError(
            f"{int(member.sum())} member(s) and {int((~member).sum())} non-member(s); expected at "
            "least one of each"
        )
    if not np.isfinite(scores).all():
        raise DataError("a score is NaN or infinite; expected finite scores")
    negatives = int((~member).sum())
    rates = [rate for rate in _FALSE_POSITIVE_RATES if negatives * rate >= 1 - 1e-9]
    fpr, tpr, _ = sk.roc_curve(member, scores, drop_intermediate=False)
    values = _figures(scores, member, None, rates)
    lows, highs = _interval(scores, member, patients, rates, seed)
    found = [Estimate(*triple) for triple in zip(values, lows, highs, strict=True)]
    gap = float(np.max(tpr - fpr))
    at = dict(zip(rates, found[1:], strict=True))
    return Detection(
        members=int(member.sum()),
        non_members=negatives,
        auc=found[0],
        tpr_at={rate: at.get(rate) for rate in _FALSE_POSITIVE_RATES},
        balanced_accuracy=(1 + gap) / 2,
        advantage=gap,
        fpr=np.asarray(fpr, np.float64),
        tpr=np.asarray(tpr, np.float64),
    )


def by_patient(
    scores: FloatArray, member: BoolArray, patients: Sequence[str], *, exponent: float
) -> tuple[FloatArray, BoolArray, list[str]]:
    """Add up the scores of each patient's n images and divide by n to the `exponent`.

    0 is the sum, for log-likelihood ratios; 1/2 is Stouffer's method, for z-scores; 1 the mean,
    for losses. Returns scores, truth and names, one entry a patient.
    """
    names, of, counts = np.unique(np.array(patients), return_inverse=True, return_counts=True)
    sums = np.bincount(of, weights=scores, minlength=len(names))
    truth = np.bincount(of, weights=member, minlength=len(names)) > 0
    return sums / counts.astype(np.float64) ** exponent, truth, [str(name) for name in names]


def rate_at(fpr: FloatArray, tpr: FloatArray, most: float) -> float:
    """Return the largest true positive rate of a threshold whose false positive rate is allowed."""
    return float(tpr[fpr <= most + 1e-12].max())


def _figures(
    scores: FloatArray, member: BoolArray, weights: FloatArray | None, rates: Sequence[float]
) -> list[float]:
    fpr, tpr, _ = sk.roc_curve(member, scores, sample_weight=weights, drop_intermediate=False)
    return [float(sk.auc(fpr, tpr)), *(rate_at(fpr, tpr, rate) for rate in rates)]


def _interval(
    scores: FloatArray,
    member: BoolArray,
    patients: Sequence[str],
    rates: Sequence[float],
    seed: int,
) -> tuple[list[float], list[float]]:
    """Return low and high ends of area and rates; all NaN where one side has a single patient."""
    names, of = np.unique(np.array(patients), return_inverse=True)
    is_member = np.bincount(of, weights=member, minlength=len(names)) > 0
    sides = np.flatnonzero(is_member), np.flatnonzero(~is_member)
    if min(map(len, sides)) < 2:
        unknown = [math.nan] * (1 + len(rates))
        return unknown, unknown

    def statistic(ins: FloatArray, outs: FloatArray) -> FloatArray:
        drawn = np.concatenate([ins, outs]).astype(np.int64)
        weights = np.bincount(drawn, minlength=len(names)).astype(np.float64)[of]
        return np.array(_figures(scores, member, weights, rates))

    found = bootstrap(
        sides,
        statistic,
        vectorized=False,
        n_resamples=_RESAMPLES,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [float(v) for v in found.low], [float(v) for v in found.high]
