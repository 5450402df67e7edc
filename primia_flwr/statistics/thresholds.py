"""The threshold of an operating point."""

from __future__ import annotations

import numpy as np

from primia_flwr.statistics.arrays import FloatArray, IntArray


def threshold_for(truth: IntArray, scores: FloatArray, sensitivity: float) -> float | None:
    """Return the largest threshold whose sensitivity is at least the demanded one.

    `truth` (N,) is 1 for yes; `scores` (N,) in [0, 1]. None where there is no yes.
    """
    positives = np.sort(scores[truth == 1])[::-1]
    if not len(positives):
        return None
    needed = int(np.ceil(sensitivity * len(positives) - 1e-9))
    return float(positives[max(needed, 1) - 1])
