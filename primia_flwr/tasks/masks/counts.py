"""Counts of pixels, and Dice of each image, from masks: the one place that computes them."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]  # sites read this file, and none of the statistics
IntArray = npt.NDArray[np.int64]


def confusion_of(labels: IntArray, called: IntArray, classes: int) -> npt.NDArray[np.int64]:
    """Return, for each image, how many pixels of class i (rows) are called class j: (N, C, C)."""
    images = len(labels)
    cells = labels.astype(np.int64).reshape(images, -1) * classes + called.reshape(images, -1)
    cells += np.arange(images)[:, None] * classes**2
    counted = np.bincount(cells.ravel(), minlength=images * classes**2)
    return counted.reshape(images, classes, classes).astype(np.int64)


def dice_of(confusion: npt.NDArray[np.int64]) -> FloatArray:
    """Return the Dice of each class of each image, (N, C), from counts (N, C, C).

    2 |A and B| / (|A| + |B|); NaN where a class is neither true nor called.
    """
    true, called = confusion.sum(axis=2), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        dice: FloatArray = 2 * np.diagonal(confusion, axis1=1, axis2=2) / (true + called)
    return dice


def iou_of(confusion: npt.NDArray[np.int64]) -> FloatArray:
    """Return intersection over union of each class from counts (..., C, C); NaN where none is."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        iou: FloatArray = right / (confusion.sum(axis=-1) + confusion.sum(axis=-2) - right)
    return iou
