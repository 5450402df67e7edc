"""The figures by which several findings are judged: each by itself, over its known labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.thresholds import threshold_for
from primia_flwr.tasks.findings import UNKNOWN
from primia_flwr.tasks.findings.counts import rates_of
from primia_flwr.tasks.parts import ScoresByPart
from primia_flwr.tasks.task import mean_or

FIGURES = ("auc", "balanced_accuracy", "sensitivity", "specificity")
DEMANDED = 0.95
"""The sensitivity of the operating point that is read off the ROC curve."""


@dataclass(frozen=True)
class _FindingScores:
    """One finding: its images by label, and figures in [0, 1].

    `sensitivity` and `specificity` are at a probability of 0.5. `threshold` is the largest with a
    sensitivity of `DEMANDED` on these very images, and `specificity_there` what it leaves. A figure
    is None where it is not defined; `note` then says why.
    """

    present: int
    absent: int
    unknown: int
    auc: float | None
    sensitivity: float | None
    specificity: float | None
    threshold: float | None
    specificity_there: float | None
    note: str = ""


@dataclass(frozen=True)
class FindingsScores(ScoresByPart):
    """All figures of one model on `n` images: means over the findings that have both labels.

    `loss` is the mean over images of the binary cross-entropy of their known labels, in nats.
    """

    n: int
    loss: float
    auc: float | None
    balanced_accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    per_finding: dict[str, _FindingScores]

    part_key = "per_finding"
    part_type = _FindingScores
    whole = ("loss", *FIGURES)


def score_findings(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, findings: Sequence[str]
) -> FindingsScores:
    """Judge probabilities.

    Parameters
    ----------
    labels : (N, F) integers: 1, 0, or -1 where unknown, which counts nowhere; N at least 1
    probabilities : (N, F) float in [0, 1]
    findings : F names

    Raises
    ------
    DataError
        If there are no images, shapes do not fit, or a value is no label or no probability.
    """
    y, p = _checked(labels, probabilities, findings)
    per_finding = {name: _of_finding(y[:, k], p[:, k]) for k, name in enumerate(findings)}
    both = [one for one in per_finding.values() if not one.note]
    rates = np.array([[one.sensitivity, one.specificity] for one in both], np.float64)
    areas = np.array([one.auc for one in both], np.float64)
    means = rates.mean(axis=0).tolist() if both else [None, None]
    return FindingsScores(
        n=len(y),
        loss=_loss(y, p),
        auc=mean_or(areas, 0.5) if both else None,
        balanced_accuracy=float(rates.mean()) if both else None,
        sensitivity=means[0],
        specificity=means[1],
        per_finding=per_finding,
    )


def _checked(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, findings: Sequence[str]
) -> tuple[IntArray, FloatArray]:
    y, p = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    if y.ndim != 2 or not len(y) or y.shape[1] != len(findings) or p.shape != y.shape:
        raise DataError(
            f"labels {y.shape} and probabilities {p.shape}; expected one row an image, at least "
            f"one, and {len(findings)} columns, one a finding"
        )
    if y.min() < UNKNOWN or y.max() > 1:
        raise DataError(f"labels from {y.min()} to {y.max()}; expected 1, 0, or -1 where unknown")
    bad = ~((p >= 0) & (p <= 1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"probabilities of {int(bad.sum())} of {len(y)} images (first: image "
            f"{int(bad.argmax())}) are no probabilities; expected 0 to 1; a model that diverged "
            "gives NaN: lower training.learning_rate"
        )
    return y, p


def _of_finding(labels: IntArray, probabilities: FloatArray) -> _FindingScores:
    known = labels != UNKNOWN
    y, p = labels[known], probabilities[known]
    present, absent = int((y == 1).sum()), int((y == 0).sum())
    confusion = np.bincount(2 * y + (p >= 0.5), minlength=4).reshape(2, 2)
    sensitivity, specificity = (None if np.isnan(r) else float(r) for r in rates_of(confusion))
    counted = (present, absent, int((~known).sum()))
    if not (present and absent):
        missing = "present" if absent else "absent" if present else "known"
        note = f"no image in which it is {missing}"
        return _FindingScores(*counted, None, sensitivity, specificity, None, None, note)
    threshold = threshold_for(y, p, DEMANDED)
    there = float((p[y == 0] < threshold).mean())
    area = float(roc_auc_score(y, p))
    return _FindingScores(*counted, area, sensitivity, specificity, threshold, there)


def _loss(labels: IntArray, probabilities: FloatArray) -> float:
    chosen = np.where(labels == 1, probabilities, 1 - probabilities)
    costs = np.where(labels == UNKNOWN, 0, -np.log(np.clip(chosen, 1e-12, 1)))
    known = (labels != UNKNOWN).sum(axis=1)
    return float((costs.sum(axis=1) / np.maximum(known, 1)).mean())
