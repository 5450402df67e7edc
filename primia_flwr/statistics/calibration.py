"""Do a model's probabilities mean what they say: reliability, ECE, Brier score, temperature.

Sources: Guo et al. 2017 (ECE of the confidence, eq. 3; temperature, sect. 4.2); Brier 1950 (the
multi-class score, 0 to 2). The temperature is fitted on validation images, never on those that
the figures are of.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.intervals import wilson

BINS = 10
_SMALLEST = 1e-12
_LOG_RANGE = (math.log(0.05), math.log(20.0))


@dataclass(frozen=True)
class Bin:
    """One bin of confidence (low, high]: mean confidence, accuracy, its Wilson interval.

    The interval counts the patients who have an image in the bin, `n` the images.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None


@dataclass(frozen=True)
class Calibration:
    """`ece` in [0, 1], `brier` in [0, 2], `nll` in nats; `bins` of equal width."""

    ece: float
    brier: float
    nll: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def calibration(
    labels: IntArray,
    probabilities: FloatArray,
    patients: npt.ArrayLike | None = None,
    *,
    bins: int = BINS,
) -> Calibration:
    """Judge probabilities (N, C) against labels (N,) of images of `patients` (N,), or one each.

    The confidence of an image is its largest probability; ECE is the mean over images of the
    distance between confidence and accuracy of their bin.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    units = np.arange(len(labels)) if patients is None else np.asarray(patients)
    found = tuple(
        _bin(k / bins, (k + 1) / bins, *(of[index == k] for of in (confidence, right, units)))
        for k in range(bins)
    )
    gaps = [b.n * abs(b.accuracy - b.confidence) for b in found if b.accuracy is not None
            and b.confidence is not None]  # fmt: skip
    truth = np.eye(probabilities.shape[1])[labels]
    own = np.clip(probabilities[np.arange(len(labels)), labels], _SMALLEST, 1)
    return Calibration(
        ece=float(sum(gaps) / len(labels)),
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        nll=float(-np.log(own).mean()),
        bins=found,
    )


def fit_temperature(labels: IntArray, probabilities: FloatArray) -> float:
    """Return the temperature in [0.05, 20] with the least cross-entropy on these images.

    Parameters
    ----------
    labels : (N,) int
        Classes of validation images.
    probabilities : (N, C) float
        Of the model, as it is.
    """
    logits = _logits(probabilities)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / math.exp(log_temperature), axis=1)[rows, labels].mean())

    found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


def with_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Return the probabilities (N, C) whose logits are divided by the temperature."""
    return np.asarray(np.exp(log_softmax(_logits(probabilities) / temperature, axis=1)))


def _logits(probabilities: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.clip(probabilities, _SMALLEST, 1)))


def _bin(
    low: float, high: float, confidence: FloatArray, right: np.ndarray, units: np.ndarray
) -> Bin:
    n = len(confidence)
    if not n:
        return Bin(low, high, 0, None, None, None, None)
    accuracy, counted = float(right.mean()), len(np.unique(units))
    lower, upper = wilson(accuracy * counted, counted)
    return Bin(low, high, n, float(confidence.mean()), accuracy, lower, upper)
