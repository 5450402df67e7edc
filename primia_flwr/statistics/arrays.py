"""The types of arrays that statistics are computed of, and the mean of what is defined."""

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def mean_known(values: FloatArray, *, axis: int) -> Any:
    """Return the mean of what is defined along an axis; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=axis) / known.sum(axis=axis)
