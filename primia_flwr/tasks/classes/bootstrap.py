"""The figures of called classes for many weighted samples at once, as the bootstrap needs them.

A sample is given by the weight of each patient: 0, 1, 2 ... copies. For weights of one the
figures are those of `metrics.score`, which the tests hold them to.

Source of the multi-class MCC: Gorodkin 2004, eq. 8.
"""

from __future__ import annotations

import numpy as np

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.intervals import Statistic, Strata


def confusion_statistic(
    labels: IntArray, predicted: IntArray, classes: int, strata: Strata
) -> Statistic:
    """Return the function from weights (B, P) to the rows named by `confusion_names`, (S, B).

    `labels` and `predicted` are (N,), indices of `classes` classes.
    """
    cells = np.zeros((strata.size, classes * classes))
    np.add.at(cells, (strata.of, labels * classes + predicted), 1)

    def statistic(weights: FloatArray) -> FloatArray:
        return confusion_figures((weights @ cells).reshape(-1, classes, classes))

    return statistic


def confusion_names(classes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (figure, class) of each row of `confusion_figures`; no class where of all."""
    rates = [(rate, name) for rate in ("sensitivity", "specificity") for name in classes]
    return [("accuracy", ""), ("mcc", ""), *rates]


def confusion_figures(confusion: FloatArray) -> FloatArray:
    """Return accuracy, MCC, the C sensitivities and the C specificities, (2 + 2C, B).

    `confusion` (B, C, C) counts images of class i (rows) called class j. A rate without images is
    NaN; MCC is 0 where it is 0/0, as in scikit-learn.
    """
    right = np.diagonal(confusion, axis1=1, axis2=2)
    true, called = confusion.sum(axis=2), confusion.sum(axis=1)
    n = true.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = right / true
        rest = n[:, None] - true
        specificity = (rest - called + right) / rest
    covariance = right.sum(axis=1) * n - (true * called).sum(axis=1)
    spread = (n**2 - (true**2).sum(axis=1)) * (n**2 - (called**2).sum(axis=1))
    mcc = np.divide(
        covariance, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(n), where=spread > 0
    )
    return np.vstack([right.sum(axis=1) / n, mcc, sensitivity.T, specificity.T])
