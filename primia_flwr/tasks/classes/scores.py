"""The figures a classifier is judged by, from labels and predicted probabilities.

All figures come from scikit-learn; this module decides what happens where a figure is not
defined (a class without images), and says so in words instead of a silent NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.tasks.parts import ScoresByPart


@dataclass(frozen=True)
class ClassScores:
    """One class against all others: `n` images of it; rates and AUC in [0, 1].

    A figure is None where it is not defined; `note` then says why.
    """

    n: int
    sensitivity: float | None
    specificity: float | None
    roc_auc: float | None
    note: str = ""


@dataclass(frozen=True)
class Scores(ScoresByPart):
    """All figures of one model on one set of images.

    `accuracy`, `balanced_accuracy` and `roc_auc` lie in [0, 1], `mcc` in [-1, 1], `loss` is the
    mean cross-entropy in nats. `roc_auc` is the mean of the one-vs-rest areas weighted by the
    number of images of each class (None with fewer than two classes in the data).
    `confusion[i][j]` counts images of class i that were predicted as class j.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    mcc: float
    roc_auc: float | None
    loss: float
    per_class: dict[str, ClassScores]
    confusion: list[list[int]]

    part_type = ClassScores
    whole = ("loss", "accuracy", "balanced_accuracy", "mcc", "roc_auc")


def score(labels: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[str]) -> Scores:
    """Judge predictions.

    Parameters
    ----------
    labels : (N,) integers in [0, C), N ≥ 1
    probabilities : (N, C) float, rows sum to one
    classes : C names

    Raises
    ------
    DataError
        If there are no images, shapes do not fit, a label is not a class, or a probability is
        not a finite number of at least zero with row sums of one.
    """
    y, p = _checked(labels, probabilities, classes)
    confusion = sk.confusion_matrix(y, p.argmax(axis=1), labels=range(len(classes)))
    counts = confusion.sum(axis=1)
    per_class = {name: _class_scores(confusion, k, y, p) for k, name in enumerate(classes)}
    recalls = [s.sensitivity for s in per_class.values() if s.sensitivity is not None]
    areas = [(s.roc_auc, s.n) for s in per_class.values() if s.roc_auc is not None and s.n]
    return Scores(
        n=len(y),
        accuracy=float(np.trace(confusion) / len(y)),
        balanced_accuracy=float(np.mean(recalls)),
        mcc=_mcc(y, p.argmax(axis=1)),
        roc_auc=_weighted(areas) if np.count_nonzero(counts) > 1 else None,
        loss=float(-np.log(np.clip(p[np.arange(len(y)), y], 1e-12, 1.0)).mean()),
        per_class=per_class,
        confusion=[[int(c) for c in row] for row in confusion],
    )


def roc_curve(labels: IntArray, probabilities: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """Return (false positive rates, true positive rates), both ascending, of class `k` vs rest.

    The class and its complement must both occur in `labels`.
    """
    fpr, tpr, _ = sk.roc_curve(labels == k, probabilities[:, k])
    return np.asarray(fpr, np.float64), np.asarray(tpr, np.float64)


def _checked(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[str]
) -> tuple[IntArray, FloatArray]:
    y, p = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    if y.ndim != 1 or len(y) == 0:
        raise DataError(
            f"labels have shape {y.shape}; expected one per image and at least one image"
        )
    if p.shape != (len(y), len(classes)):
        raise DataError(
            f"probabilities have shape {p.shape}; expected {(len(y), len(classes))}, "
            "one row an image and one column a class"
        )
    if y.min() < 0 or y.max() >= len(classes):
        raise DataError(
            f"labels range from {y.min()} to {y.max()}; expected 0 to {len(classes) - 1}, "
            f"the indices of {', '.join(classes)}"
        )
    _check_rows(p)
    return y, p


def _check_rows(p: FloatArray) -> None:
    bad = ~np.isfinite(p).all(axis=1) | (p < 0).any(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-3)
    if bad.any():
        raise DataError(
            f"probabilities of {int(bad.sum())} of {len(p)} images (first: image "
            f"{int(bad.argmax())}) are no probabilities; expected finite values of at least 0 that "
            "sum to 1; a model that diverged gives NaN: lower training.learning_rate"
        )


def _class_scores(confusion: IntArray, k: int, y: IntArray, p: FloatArray) -> ClassScores:
    n, rest = int(confusion[k].sum()), int(len(y) - confusion[k].sum())
    false_positives = int(confusion[:, k].sum() - confusion[k, k])
    note = "" if n and rest else "no image of this class" if not n else "no image of another class"
    return ClassScores(
        n=n,
        sensitivity=float(confusion[k, k] / n) if n else None,
        specificity=1.0 - false_positives / rest if rest else None,
        roc_auc=float(sk.roc_auc_score(y == k, p[:, k])) if n and rest else None,
        note=note,
    )


def _mcc(labels: IntArray, predicted: IntArray) -> float:
    if len(np.union1d(labels, predicted)) == 1:
        return 0.0  # nothing to tell apart; scikit-learn says so too, with a warning
    return float(sk.matthews_corrcoef(labels, predicted))


def _weighted(pairs: Sequence[tuple[float, int]]) -> float:
    values, weights = zip(*pairs, strict=True)
    return float(np.average(values, weights=weights))
