"""Sets of classes that hold the true one as often as was asked: split conformal prediction.

The score of a class is 1 less its probability. Of n patients whose class is known, the k-th
smallest score of the true class, k = ceil((n + 1) coverage), is the threshold: a set has every
class with a score up to it. Then the set of a new patient, exchangeable with those, holds the true
class with at least that probability. Here scores are known by the bin of a histogram that sites
summed; a bin counts as its upper end, which keeps the guarantee and makes sets a little larger.

Sources: Vovk, Gammerman, Shafer 2005; Sadinle, Lei, Wasserman 2019 (this score, and by class).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.intervals import wilson


@dataclass(frozen=True)
class SetFigures:
    """How sets did on images whose class is known.

    `coverage`: share of images whose set holds the true class; its Wilson interval counts patients.
    `mean_size`: classes in a set; `single`, `empty`: share of sets with one class, with none.
    """

    images: int
    patients: int
    coverage: float
    low: float
    high: float
    mean_size: float
    single: float
    empty: float

    @classmethod
    def of(cls, sets: npt.NDArray[np.bool_], labels: IntArray, patients: npt.ArrayLike) -> Any:
        """Judge sets (N, C) of images with labels (N,) of patients (N,); None without images."""
        if not len(labels):
            return None
        held = float(sets[np.arange(len(labels)), labels].mean())
        people, sizes = len(np.unique(np.asarray(patients))), sets.sum(axis=1)
        low, high = wilson(held * people, people)
        return cls(
            len(labels), people, held, low, high,
            float(sizes.mean()), float((sizes == 1).mean()), float((sizes == 0).mean()),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def set_thresholds(counts: IntArray, *, coverage: float, by_class: bool) -> IntArray:
    """Return the last bin that is in a set, of each class (C,).

    Parameters
    ----------
    counts : (C, B) int
        Scores of patients of each class, by bin.
    coverage : float
        In (0, 1).
    by_class : bool
        A threshold for each class from its own patients, so that each class is covered as often;
        else one from all.

    Returns
    -------
    ndarray
        B - 1, every class in every set, where there are too few patients.
    """
    rows = counts if by_class else np.broadcast_to(counts.sum(axis=0), counts.shape)
    return np.array([_threshold(row, coverage) for row in rows], np.int64)


def prediction_sets(
    probabilities: FloatArray, thresholds: IntArray, *, bins: int
) -> npt.NDArray[np.bool_]:
    """Return which classes are in the set of each image, (N, C); `probabilities` are (N, C)."""
    found = np.clip(np.ceil((1 - probabilities) * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.asarray(found <= thresholds[None, :])


def smallest_patients(coverage: float) -> int:
    """Return the fewest patients from which a threshold below 1 can follow."""
    asked = Fraction(str(coverage))
    return math.ceil(asked / (1 - asked))


def figures_by_class(
    sets: npt.NDArray[np.bool_], labels: IntArray, patients: Sequence[str], names: Sequence[str]
) -> dict[str, SetFigures | None]:
    """Return the figures of the images of each class by its name."""
    who = np.asarray(patients)
    return {
        name: SetFigures.of(sets[labels == k], labels[labels == k], who[labels == k])
        for k, name in enumerate(names)
    }


def _threshold(row: IntArray, coverage: float) -> int:
    rank = math.ceil((int(row.sum()) + 1) * Fraction(str(coverage)))
    below = np.cumsum(row)
    return int(np.searchsorted(below, rank)) if rank <= below[-1] else len(row) - 1
