"""Scores in bins by label, and what follows from them: calls, areas, and how exact these are.

A count of scores in a few bins adds up over sites, which an area does not. Two images in one bin
count as a tie, so the area is off by at most half of the share of pairs that share a bin.
"""

import numpy as np
import numpy.typing as npt

from primia_flwr.tasks.findings import BINS

FloatArray = npt.NDArray[np.float64]  # sites read this file, and none of the statistics
IntArray = npt.NDArray[np.int64]
_FARTHEST = 8.0


def binned(logits: FloatArray, labels: IntArray) -> npt.NDArray[np.int64]:
    """Return how many images of each label have a score in each bin, (F, 2, BINS).

    Parameters
    ----------
    logits : (N, F) float
        Of each finding; a logit of 0 is the first of the upper half of the bins.
    labels : (N, F) int
        1, 0, or anything else, which is not counted.
    """
    width = 2 * _FARTHEST / BINS
    labels = labels.astype(np.int64)
    near = np.clip(np.nan_to_num(logits, nan=-_FARTHEST), -_FARTHEST, _FARTHEST)
    place = np.floor((near + _FARTHEST) / width).astype(np.int64)
    cells = np.minimum(place, BINS - 1) + BINS * labels
    cells += 2 * BINS * np.arange(logits.shape[1])
    known = (labels == 0) | (labels == 1)
    found = np.bincount(cells[known], minlength=2 * BINS * logits.shape[1])
    return found.reshape(-1, 2, BINS).astype(np.int64)


def confusion_of(scores: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the images by label (rows) and call at a probability of 0.5, (..., 2, 2)."""
    halves = scores.reshape(*scores.shape[:-1], 2, BINS // 2)
    return np.asarray(halves.sum(axis=-1), np.int64)


def areas_of(scores: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return the area under the ROC curve of each finding and its largest error, (F,) each.

    `scores` (F, 2, BINS) as `binned` gives them, or sums of those. NaN where one label is missing.
    """
    absent, present = (scores[:, label].astype(np.float64) for label in (0, 1))
    below = absent.cumsum(axis=1) - absent / 2
    with np.errstate(invalid="ignore"):
        pairs = absent.sum(axis=1) * present.sum(axis=1)
        area, error = (present * below).sum(axis=1) / pairs, (present * absent).sum(axis=1) / pairs
    return area, error / 2


def rates_of(confusion: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return sensitivity and specificity from counts (..., 2, 2); NaN where it has no image."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        specificity, sensitivity = np.moveaxis(right / confusion.sum(axis=-1), -1, 0)
    return sensitivity, specificity


def rarest_of(labels: IntArray) -> IntArray:
    """Return the index of the rarest finding present in each image, (N,); F where none is.

    `labels` is (N, F); of findings that are equally rare it is the first.
    """
    counts = (labels == 1).sum(axis=0)
    ranked = np.where(labels == 1, counts, np.iinfo(np.int64).max)
    found: IntArray = np.where((labels == 1).any(axis=1), ranked.argmin(axis=1), labels.shape[1])
    return found
