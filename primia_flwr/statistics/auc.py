"""Areas under ROC curves of many weighted samples at once, with DeLong's variance of each.

A sample is given by the weight of each patient: 0, 1, 2 ... copies, each a patient of its own.
Images of one patient may be dependent: Obuchowski's form sums what they add to the error over each
patient first. With one image a patient that is DeLong's.

Sources: Provost & Domingos 2000 (the class-weighted one-vs-rest area); DeLong, DeLong &
Clarke-Pearson 1988; Sun & Xu 2014, alg. 2; Obuchowski 1997.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.intervals import Statistic, Strata


def area_statistic(
    labels: IntArray, probabilities: FloatArray, classes: int, strata: Strata
) -> Statistic:
    """Return the function from weights (B, P) to the class-weighted one-vs-rest area, (1, B).

    `probabilities` is (N, C). Classes are weighted by their images in the sample; those without
    an image, or without one of another class, count nothing.
    """
    columns = [SortedScores(labels == k, probabilities[:, k]) for k in range(classes)]

    def statistic(weights: FloatArray) -> FloatArray:
        images = weights[:, strata.of]
        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for column in columns:
            area, positives = column.areas(images)
            known = np.isfinite(area)
            total += np.where(known, area * positives, 0)
            count += np.where(known, positives, 0)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / count)[None, :]

    return statistic


def area_and_variance(
    positive: np.ndarray, scores: FloatArray, shares: FloatArray, strata: Strata
) -> Statistic:
    """Return the function from weights (B, P) to a sum of areas and its variance, (2, B).

    Parameters
    ----------
    positive : (K, N) bool
        Which images are of the class, of each of K areas.
    scores : (K, N) float
        The higher, the more likely of the class.
    shares : (K,) float
        Factors of the areas in the sum.
    strata : Strata
        Whose each image is.
    """
    columns = [SortedScores(side, own) for side, own in zip(positive, scores, strict=True)]
    one_hot = np.ones(len(strata.of)), (np.arange(len(strata.of)), strata.of)
    patients = csr_array(one_hot, shape=(len(strata.of), strata.size))

    def statistic(weights: FloatArray) -> FloatArray:
        images = weights[:, strata.of]
        total, influence = np.zeros(len(weights)), np.zeros_like(images)
        for column, side, share in zip(columns, positive, shares, strict=True):
            on = [(patients.T @ chosen > 0).astype(np.float64) for chosen in (side, ~side)]
            area, own = column.influences(images, [weights @ one for one in on])
            total += share * area
            influence += share * own
        variance = (weights * np.square(influence @ patients)).sum(axis=1)
        return np.stack([total, variance])

    return statistic


class SortedScores:
    """One score per image (N,), sorted once, for the areas of many weighted samples.

    `positive` (N,) bool says which images are of the class; ties count half.
    """

    def __init__(self, positive: np.ndarray, scores: FloatArray) -> None:
        self.order = np.argsort(scores, kind="stable")
        _, self.starts, self.tied = np.unique(
            scores[self.order], return_index=True, return_inverse=True
        )
        self.positive = positive[self.order]

    def areas(self, images: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the areas (B,) and the positives' weight (B,) for image weights (B, N)."""
        positive, negative = self._by_score(images)
        below = negative.cumsum(axis=1) - negative / 2
        m, n = positive.sum(axis=1), negative.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (positive * below).sum(axis=1) / (m * n), m

    def influences(
        self, images: FloatArray, patients: list[FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the areas (B,) and what one copy of each image adds to their error, (B, N).

        The variance is the sum of the squares of the patients' sums. A sample with only one side
        has neither: NaN.

        Parameters
        ----------
        images : (B, N) float
            Weights of the images.
        patients : list of two (B,) float
            How many have an image of the class, and how many one of the others: each side carries
            the square root of DeLong's factor n / (n - 1). For a patient with images on both,
            Obuchowski's cross term has a factor of its own; here it is the geometric mean.
        """
        positive, negative = self._by_score(images)
        m, n = (side.sum(axis=1, keepdims=True) for side in (positive, negative))
        below = negative.cumsum(axis=1) - negative / 2
        above = m - positive.cumsum(axis=1) + positive / 2
        factor = [np.sqrt(count / np.maximum(count - 1, 1))[:, None] for count in patients]
        with np.errstate(divide="ignore", invalid="ignore"):
            area = (positive * below).sum(axis=1, keepdims=True) / (m * n)
            of_positive = (below / n - area) / m * factor[0]
            of_negative = (above / m - area) / n * factor[1]
        influence = np.empty_like(images)
        influence[:, self.order] = np.where(
            self.positive, of_positive[:, self.tied], of_negative[:, self.tied]
        )
        return area[:, 0], influence

    def _by_score(self, images: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the weight of the positives and negatives of each distinct score, (B, G) each."""
        ordered = images[:, self.order]
        positive = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        return positive, np.add.reduceat(ordered * ~self.positive, self.starts, axis=1)
