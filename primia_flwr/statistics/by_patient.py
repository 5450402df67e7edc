"""Patients as what is counted: sums over their images, and how many of them there effectively are.

Source: Carter, Schnepel & Steigerwald 2017 (few or unequal clusters count as fewer ones).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.intervals import LEVEL


def patient_sums(values: npt.ArrayLike, patients: npt.ArrayLike) -> FloatArray:
    """Return the sum of each patient's values (N,), (P,)."""
    _, of = np.unique(np.asarray(patients), return_inverse=True)
    return np.asarray(np.bincount(of, weights=np.asarray(values, np.float64)), np.float64)


def student_reach(variance: float, patients: npt.ArrayLike) -> float | None:
    """Return half the width of a 95 % interval of a figure of images (N,) of `patients` (N,).

    None where nothing varies or the images are of less than two effective patients.
    """
    _, images = np.unique(np.asarray(patients), return_counts=True)
    effective = effective_number(images)
    if variance <= 1e-15 or effective < 2:
        return None
    return float(student.ppf((1 + LEVEL) / 2, effective - 1)) * math.sqrt(variance)


def effective_number(weights: npt.ArrayLike) -> float:
    """Return how many equal weights vary as much as these: N where alike, 1 where one rules."""
    squares = np.square(np.asarray(weights, np.float64))
    return float(squares.sum() ** 2 / np.square(squares).sum())
