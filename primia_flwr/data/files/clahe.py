"""Contrast-limited adaptive histogram equalisation.

Source: Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Levels = npt.NDArray[np.uint8]


def equalise_tiles(image: Tensor, *, tiles: int, clip: float) -> Tensor:
    """Equalise each of `tiles` x `tiles` regions and blend between their centres.

    Parameters
    ----------
    image
        (C, H, W) uint8.
    tiles
        Regions along each side, at least 1.
    clip
        Highest slope of a region's grey-level curve; what is cut off is spread evenly.

    Returns
    -------
    Tensor
        (C, H, W) uint8.
    """
    planes = [_equalise(plane, tiles, clip) for plane in image.numpy()]
    return torch.from_numpy(np.stack(planes))


def _equalise(plane: _Levels, tiles: int, clip: float) -> _Levels:
    height, width = plane.shape
    curves = np.array(
        [
            [_curve(block, clip) for block in np.array_split(band, tiles, axis=1)]
            for band in np.array_split(plane, tiles, axis=0)
        ]
    )
    row, down = _neighbours(height, tiles)
    column, right = _neighbours(width, tiles)
    next_row, next_column = np.minimum(row + 1, tiles - 1), np.minimum(column + 1, tiles - 1)
    top = _blend(curves, plane, row, column, next_column, right)
    bottom = _blend(curves, plane, next_row, column, next_column, right)
    blended = top * (1 - down[:, None]) + bottom * down[:, None]
    return np.rint(blended).astype(np.uint8)


def _blend(
    curves: npt.NDArray[np.float64],
    plane: _Levels,
    row: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    near = curves[row[:, None], left[None, :], plane]
    far = curves[row[:, None], right[None, :], plane]
    blended: npt.NDArray[np.float64] = near * (1 - weight) + far * weight
    return blended


def _curve(block: _Levels, clip: float) -> npt.NDArray[np.float64]:
    """Map from grey level to grey level: (256,) in [0, 255]."""
    counts = np.bincount(block.reshape(-1), minlength=256) / max(block.size, 1)
    limit = clip / 256
    cut = np.minimum(counts, limit)
    return np.asarray(np.cumsum(cut + (counts - cut).sum() / 256) * 255).clip(0, 255)


def _neighbours(length: int, tiles: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Index of the region centre before each pixel, and the weight of the one after it."""
    place = (np.arange(length) + 0.5) / length * tiles - 0.5
    before = np.clip(np.floor(place), 0, tiles - 1).astype(np.int64)
    return before, np.clip(place - before, 0, 1)
