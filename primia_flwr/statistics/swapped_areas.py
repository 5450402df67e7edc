"""The test of two models' areas by patient: their scores are swapped patient by patient.

Scores of two models need not be on one scale, so they are first turned into ranks. Then the
difference of the two areas is a sum over patients whose signs flip as the scores are swapped.

Two things are ours, and chosen by benchmarks/primia_bench/training/type_one_error.py. A patient of
n images counts as the fourth root of n in the ranks: were each image to count, one patient with
many would move all ranks, and the test find too much; were each patient to count alike, too little.
And the difference is set in relation to DeLong's error, not to that of the swaps, which is another
one where curves cross. Where few patients rule, DeLong's is no use, and the swaps' is taken.

Sources: Bandos, Rockette & Gur 2005; Janssen 1997 (a studentised statistic in a permutation test).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.by_patient import effective_number
from primia_flwr.statistics.sign_flips import SignFlips, sign_flips

_WEIGHT = 0.25  # power of a patient's number of images
_RULED = 7  # patients that effectively differ, below which DeLong's error is not taken
_MOST = 1.25  # by which it may be less than that of the swaps


def swap_test(
    labels: IntArray,
    first: FloatArray,
    second: FloatArray,
    patients: npt.ArrayLike,
    *,
    variance: float = 0.0,
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
    variance : float
        DeLong's, of the difference; 0 where it is not known.
    """
    _, of = np.unique(np.asarray(patients), return_inverse=True)
    present, counts = np.unique(labels, return_counts=True)
    sums = np.zeros(int(of.max()) + 1)
    for k, count in zip(present, counts, strict=True):
        one, other = (_ranks(scores[:, k], of) for scores in (first, second))
        sums += count / len(labels) * swapped_sums(labels == k, one, other, of)
    of_swaps = float(np.square(sums).sum())
    known = variance > 0 and of_swaps > 0 and effective_number(sums) >= _RULED
    return sign_flips(sums, scale=min(_MOST, math.sqrt(of_swaps / variance)) if known else 1.0)


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
        positive, above_negatives[0] - above_negatives[1], above_positives[1] - above_positives[0]
    )
    pairs = int(positive.sum()) * int((~positive).sum())
    return np.asarray(np.bincount(of, weights=own) / (2 * pairs))


def _above(scores: FloatArray, ordered: FloatArray) -> FloatArray:
    """Return how many of the ordered lie below each score, ties half."""
    sides = [np.searchsorted(ordered, scores, side) for side in ("left", "right")]
    return np.asarray((sides[0] + sides[1]) / 2)


def _ranks(scores: FloatArray, of: IntArray) -> FloatArray:
    """Return the share of patients below each score, in [0, 1]; a patient's images share it."""
    _, position = np.unique(scores, return_inverse=True)
    images = np.maximum(np.bincount(of), 1)
    each = np.bincount(position, weights=(images**_WEIGHT / images)[of])
    below = each.cumsum() - each / 2
    return np.asarray(np.round(below / each.sum(), 9)[position])
