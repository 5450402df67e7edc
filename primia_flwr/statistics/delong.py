"""Areas under ROC curves on the same images: their covariance, differences, intervals.

`auc` has the area and what each image adds to its error. A class-weighted one-vs-rest area is a
sum of areas with the class shares as weights, so what an image adds is that sum, too.

Sources: DeLong, DeLong & Clarke-Pearson 1988; Obuchowski 1997; the logit form of the interval:
Pepe 2003, sect. 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.auc import SortedScores
from primia_flwr.statistics.by_patient import patient_sums, student_reach
from primia_flwr.statistics.intervals import LEVEL, Interval

_DELONG = "DeLong, logit"
_DELONG_PLAIN = "DeLong"
_Z = float(norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True)
class Area:
    """An area in [0, 1] and what each image adds to its error.

    `influence` (N,): the sum of the squares of the patients' sums is the variance.
    """

    value: float
    influence: FloatArray


def area(
    scores: npt.ArrayLike, positive: npt.ArrayLike, patients: npt.ArrayLike | None = None
) -> Area:
    """Return the area of a score for positive against negative images.

    Parameters
    ----------
    scores : (N,) float
        The higher, the more likely positive; ties count half.
    positive : (N,) bool
        At least two patients with a positive image and two with a negative one.
    patients : (N,), optional
        Whose image each is; without it, each image is of a patient of its own.

    Raises
    ------
    DataError
        If either side has fewer than two patients.
    """
    s, side = np.asarray(scores, np.float64), np.asarray(positive, bool)
    units = np.arange(len(s)) if patients is None else np.asarray(patients)
    counts = [len(np.unique(units[chosen])) for chosen in (side, ~side)]
    if min(counts) < 2:
        raise DataError(
            f"{counts[0]} patient(s) of the class and {counts[1]} of the others; expected at "
            "least 2 of each for the variance of an area"
        )
    patients_of = [np.array([float(count)]) for count in counts]
    value, influence = SortedScores(side, s).influences(np.ones((1, len(s))), patients_of)
    return Area(float(value[0]), influence[0])


def weighted_area(
    labels: IntArray, probabilities: FloatArray, patients: npt.ArrayLike | None = None
) -> Area:
    """Return the one-vs-rest area of C classes, weighted by the images of each class.

    `labels`: (N,) int, indices of classes; classes without images are left out. `probabilities`:
    (N, C) float, of each class. `patients`: (N,), as in `area`.

    Raises
    ------
    DataError
        If a class that occurs has fewer than two patients, or all images are of one class.
    """
    present, counts = np.unique(labels, return_counts=True)
    parts = [area(probabilities[:, k], labels == k, patients) for k in present]
    shares = counts / counts.sum()
    value = sum(float(w) * part.value for w, part in zip(shares, parts, strict=True))
    influence = np.tensordot(shares, np.stack([part.influence for part in parts]), axes=1)
    return Area(value, influence)


def covariance(areas: Sequence[Area], patients: npt.ArrayLike | None = None) -> FloatArray:
    """Return the covariance matrix (R, R) of R areas on the same N images."""
    influences = np.stack([one.influence for one in areas])
    if patients is not None:
        _, of = np.unique(np.asarray(patients), return_inverse=True)
        sums = np.zeros((len(areas), int(of.max()) + 1))
        np.add.at(sums.T, of, influences.T)
        influences = sums
    return np.asarray(influences @ influences.T)


def area_interval(
    found: Area, patients: npt.ArrayLike | None = None, *, on_logit: bool = True
) -> Interval:
    """Return the area with its 95 % interval, by default computed on the logit scale.

    For comparison; what is shown is `studentised`'s, which holds with fewer patients too.
    An area of exactly 0 or 1 has an estimated variance of 0 and so no interval.
    """
    if not 0 < found.value < 1:
        note = f"an area of {found.value:.0f} has no variance to be estimated"
        return Interval(found.value, note=note)
    error = math.sqrt(float(covariance([found], patients)[0, 0]))
    if on_logit:
        middle, reach = logit(found.value), _Z * error / (found.value * (1 - found.value))
        return Interval(
            found.value, float(expit(middle - reach)), float(expit(middle + reach)), _DELONG
        )
    low, high = max(0.0, found.value - _Z * error), min(1.0, found.value + _Z * error)
    return Interval(found.value, low, high, _DELONG_PLAIN)


def difference_variance(first: Area, second: Area, patients: npt.ArrayLike) -> float:
    """Return the variance of the difference of two areas on the same images."""
    return float(np.square(patient_sums(first.influence - second.influence, patients)).sum())


def area_difference(first: Area, second: Area, patients: npt.ArrayLike | None = None) -> Interval:
    """Return the difference of two areas on the same images, with its 95 % interval by patient.

    Whether it is 0 is tested by `swapped_areas`; the quantile is Student's (see `by_patient`).
    """
    units = np.arange(len(first.influence)) if patients is None else patients
    difference = first.value - second.value
    reach = student_reach(difference_variance(first, second, units), units)
    if reach is None:
        return Interval(difference, note="one patient rules, or all are alike: no variance")
    return Interval(difference, difference - reach, difference + reach, _DELONG_PLAIN)
