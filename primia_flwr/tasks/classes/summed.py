"""What counts of calls that sites summed say of a model, with intervals by image.

Nothing is known of single patients, so each image counts as if it were a patient of its own: where
patients have several, the intervals are too short, and who shows them says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primia_flwr.statistics.arrays import IntArray
from primia_flwr.statistics.intervals import LEVEL, Interval, wilson
from primia_flwr.tasks.classes.bootstrap import confusion_figures, confusion_names

_DRAWS = 2000
_WILSON, _DRAWN = "Wilson, by image", "multinomial draws, by image"


def summed_figures(confusion: IntArray, names: Sequence[str]) -> dict[tuple[str, str], Interval]:
    """Return accuracy, MCC, and each class's sensitivity and specificity, by figure and class.

    `confusion` (C, C) counts images of class i (rows) called class j; at least one image.
    """
    values = confusion_figures(confusion[None].astype(np.float64))[:, 0]
    found = {}
    for key, value in zip(confusion_names(tuple(names)), values.tolist(), strict=True):
        figure, name = key
        own = confusion[list(names).index(name)].sum() if name else confusion.sum()
        counted = int(confusion.sum() - own if figure == "specificity" else own)
        found[key] = _mcc(confusion, value) if figure == "mcc" else _rate(value, counted)
    return found


def _rate(value: float, images: int) -> Interval:
    if not images:
        return Interval(None, note="no image of this class, or no other")
    return Interval(value, *wilson(value * images, images), _WILSON)


def _mcc(confusion: IntArray, value: float) -> Interval:
    """Return the MCC with percentiles over draws of as many images of each class."""
    rng = np.random.default_rng(0)
    rows = [
        rng.multinomial(int(row.sum()), row / max(int(row.sum()), 1), size=_DRAWS)
        if row.sum()
        else np.zeros((_DRAWS, len(row)))
        for row in confusion
    ]
    drawn = confusion_figures(np.stack(rows, axis=1).astype(np.float64))[1]
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    if low == high:
        return Interval(value, note="no draw differs")
    return Interval(value, float(low), float(high), _DRAWN)
