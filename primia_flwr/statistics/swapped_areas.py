"""The test of two models' areas by patient: their scores are swapped patient by patient.

Scores of two models need not be on one scale, so they are first turned into ranks, each patient
counting once however many images there are. Then the difference of the two areas is a sum over
patients whose signs flip as the patients' scores are swapped.

Source: Bandos, Rockette & Gur 2005; the ranks by patient are ours, as one patient with many images
would else move all ranks (benchmarks/primia_bench/training/type_one_error.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.sign_flips import SignFlips, sign_flips


def swap_test(
    labels: IntArray, first: FloatArray, second: FloatArray, patients: npt.ArrayLike
) -> SignFlips:
    """Test whether two models' class-weighted one-vs-rest areas are equal.

    Parameters
    ----------
    labels : (N,) int
        Indices of classes; at least two occur.
    first, second : (N, C) float
        The models' scores of each class, the higher, the more likely.
    patients : (N,)
        Whose image each is.
    """
    _, of = np.unique(np.asarray(patients), return_inverse=True)
    present, counts = np.unique(labels, return_counts=True)
    sums = np.zeros(int(of.max()) + 1)
    for k, count in zip(present, counts, strict=True):
        one, other = (_ranks(scores[:, k], of) for scores in (first, second))
        sums += count / len(labels) * swapped_sums(labels == k, one, other, of)
    return sign_flips(sums)


def swapped_sums(
    positive: npt.NDArray[np.bool_], first: FloatArray, second: FloatArray, of: IntArray
) -> FloatArray:
    """Return the patients' parts (P,) of the first area minus the second.

    Swapping a patient's scores, which are on one scale, turns the sign of its part.
    """
    both = np.stack([first, second])
    above_negatives = _above(both, np.sort(both[:, ~positive].ravel()))
    above_positives = _above(both, np.sort(both[:, positive].ravel()))
    own = np.where(
        positive,
        above_negatives[0] - above_negatives[1],
        above_positives[1] - above_positives[0],
    )
    pairs = int(positive.sum()) * int((~positive).sum())
    return np.asarray(np.bincount(of, weights=own) / (2 * pairs))


def _above(scores: FloatArray, ordered: FloatArray) -> FloatArray:
    """Return how many of the ordered lie below each score, ties half."""
    sides = [np.searchsorted(ordered, scores, side) for side in ("left", "right")]
    return np.asarray((sides[0] + sides[1]) / 2)


def _ranks(scores: FloatArray, of: IntArray) -> FloatArray:
    """Return the share of patients below each score, in [0, 1]; a patient's images share one."""
    _, position = np.unique(scores, return_inverse=True)
    each = np.bincount(position, weights=(1 / np.bincount(of))[of])
    below = each.cumsum() - each / 2
    return np.asarray(np.round(below / each.sum(), 9)[position])
