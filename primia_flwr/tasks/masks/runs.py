"""A mask as text in one cell of a table: its height and width, then runs of equal classes.

`2x3:0*4 1*2` is two rows of three pixels, of which the last two are of class 1.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_RUN = re.compile(r"([0-9]{1,3})\*([0-9]{1,9})")
_LARGEST_SIDE = 4096


def to_runs(mask: npt.NDArray[Any]) -> str:
    """Return a mask (H, W), row by row."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] + 1 if flat.size else 0))
    lengths = np.diff(starts, append=flat.size)
    runs = (f"{int(flat[at])}*{length}" for at, length in zip(starts, lengths, strict=True))
    return f"{mask.shape[0]}x{mask.shape[1]}:{' '.join(runs)}"


def from_runs(text: str) -> npt.NDArray[np.uint8]:
    """Return the mask (H, W); a ValueError that says what is expected of another text."""
    head, _, body = text.partition(":")
    size, runs = _SIZE.fullmatch(head), [_RUN.fullmatch(run) for run in body.split(" ")]
    if size is None or not all(runs):
        raise ValueError("a mask is written otherwise; expected e.g. 2x3:0*4 1*2")
    height, width = int(size[1]), int(size[2])
    if not 0 < height <= _LARGEST_SIDE or not 0 < width <= _LARGEST_SIDE:
        raise ValueError(f"a mask of {height} x {width}; expected at most {_LARGEST_SIDE} a side")
    values, lengths = np.array([[int(run[1]), int(run[2])] for run in runs if run]).T
    if lengths.sum() != height * width or values.max() > 255:
        raise ValueError(f"a mask of {lengths.sum()} pixels; expected {height} x {width}")
    return np.repeat(values.astype(np.uint8), lengths).reshape(height, width)
