"""Thresholds for a demanded sensitivity, chosen on other images than they are judged on.

A model's most probable class treats all mistakes alike. Who screens demands a sensitivity, and
asks what specificity is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.statistics.intervals import Interval, Strata
from primia_flwr.tasks.classes.bootstrap import confusion_statistic

ANY = "any finding"


@dataclass(frozen=True)
class Question:
    """A yes-no question: `positive` (C,) says which classes are a yes."""

    name: str
    positive: tuple[bool, ...]

    def truth(self, labels: IntArray) -> IntArray:
        """Return 1 for yes, 0 for no, (N,)."""
        return np.array(self.positive, np.int64)[labels]

    def score(self, probabilities: FloatArray) -> FloatArray:
        """Return the probability of a yes, (N,)."""
        return np.asarray(probabilities[:, np.array(self.positive)].sum(axis=1))


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold in [0, 1] (yes from it on) and what it gives on the compared images.

    `chosen_on` is validation or compared; chosen on the compared images themselves, the
    sensitivity is the demanded one by construction and the specificity flatters.
    """

    question: str
    demanded: float
    threshold: float
    chosen_on: str
    sensitivity: Interval
    specificity: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **{key: getattr(self, key) for key in ("question", "demanded", "threshold")},
            "chosen_on": self.chosen_on,
            "sensitivity": self.sensitivity.to_dict(),
            "specificity": self.specificity.to_dict(),
        }


def questions(classes: tuple[str, ...], negative: str) -> list[Question]:
    """Return each class against the rest, and first any class but `negative` if that is one."""
    each = [Question(name, tuple(c == name for c in classes)) for name in classes]
    if negative not in classes or len(classes) < 3:
        return [q for q in each if q.name != negative] if negative in classes else each
    return [Question(f"{ANY} (not {negative})", tuple(c != negative for c in classes)),
            *(q for q in each if q.name != negative)]  # fmt: skip


def binary_statistic(truth: IntArray, called: IntArray, strata: Strata) -> Any:
    """Return the bootstrap's statistic with rows (sensitivity, specificity) of yes."""
    whole = confusion_statistic(truth, called, 2, strata)
    # Rows of two classes: accuracy, MCC, sensitivity of no and yes, specificity of no and yes.
    return lambda weights: whole(weights)[[3, 5]]
