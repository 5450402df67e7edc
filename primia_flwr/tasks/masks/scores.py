"""The figures by which masks are judged: image by image, then the mean over images and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import FloatArray, mean_known
from primia_flwr.tasks.masks.counts import confusion_of, dice_of, iou_of
from primia_flwr.tasks.masks.surface import surface_distances
from primia_flwr.tasks.parts import ScoresByPart

FIGURES = ("dice", "iou", "hd95", "surface_distance")


@dataclass(frozen=True)
class CaseScores:
    """Figures of N images, by name of `FIGURES`: (N, K) each, K classes but the background.

    NaN where a class is neither true nor called (Dice, IoU), or not both (distances).
    """

    values: dict[str, FloatArray]

    def of_image(self, name: str) -> FloatArray:
        """Return the mean of a figure over the classes of each image, (N,); NaN where none has."""
        found: FloatArray = mean_known(self.values[name], axis=1)
        return found

    def image_dice(self) -> FloatArray:
        """Return the mean Dice of each image; 1 where nothing is there and nothing was called."""
        return np.nan_to_num(self.of_image("dice"), nan=1.0)


@dataclass(frozen=True)
class ClassScores:
    """One class over all images: `n` of them show it; None where no image defines a figure."""

    n: int
    dice: float | None
    iou: float | None
    hd95: float | None
    surface_distance: float | None


@dataclass(frozen=True)
class MaskScores(ScoresByPart):
    """All figures of one model on `n` images; each is the mean over the classes of `per_class`.

    `dice` in [0, 1] is the mean over images; `iou` in [0, 1] is that of all pixels together.
    `hd95` and `surface_distance` are in pixels of the image as the model sees it, over the images
    in which a class is true and called; `without` counts those in which it is one of both only.
    """

    n: int
    dice: float | None
    iou: float | None
    hd95: float | None
    surface_distance: float | None
    without: int
    per_class: dict[str, ClassScores]
    part_type = ClassScores
    whole = FIGURES

    @property
    def notes(self) -> tuple[str, ...]:
        """Say which images have no distance."""
        if not self.without:
            return ()
        return (
            f"in {self.without} case(s) a class is missed, or called where it is not: they have no "
            "distance, and Dice 0",
        )


def score_masks(
    labels: npt.NDArray[Any], called: npt.NDArray[Any], classes: Sequence[str]
) -> MaskScores:
    """Judge called masks.

    Parameters
    ----------
    labels, called : (N, H, W) integers in [0, C), N at least 1
    classes : C names, the background first

    Raises
    ------
    DataError
        If there are no images, shapes differ, or a value is no class.
    """
    _check(labels, called, classes)
    cases = score_cases(labels, called, len(classes))
    means = {name: mean_known(values, axis=0) for name, values in cases.values.items()}
    means["iou"] = iou_of(confusion_of(labels, called, len(classes)).sum(axis=0))[1:]
    shown = [(labels == k).any(axis=(1, 2)).sum() for k in range(1, len(classes))]
    per_class = {
        name: ClassScores(int(shown[k]), *(_or_none(means[figure][k]) for figure in FIGURES))
        for k, name in enumerate(classes[1:])
    }
    there, measured = (~np.isnan(cases.values[name]) for name in ("dice", "hd95"))
    dice, iou, hd95, distance = (_or_none(mean_known(means[figure], axis=0)) for figure in FIGURES)
    without = int((there & ~measured).sum())
    return MaskScores(len(labels), dice, iou, hd95, distance, without, per_class)


def score_cases(labels: npt.NDArray[Any], called: npt.NDArray[Any], classes: int) -> CaseScores:
    """Return the figures of each image and class; arguments as `score_masks`."""
    confusion = confusion_of(labels, called, classes)
    distances = np.array(
        [
            [surface_distances(true == k, found == k) for k in range(1, classes)]
            for true, found in zip(labels, called, strict=True)
        ]
    )
    figures = (dice_of(confusion)[:, 1:], iou_of(confusion)[:, 1:])
    return CaseScores(
        dict(zip(FIGURES, (*figures, distances[..., 0], distances[..., 1]), strict=True))
    )


def _check(labels: npt.NDArray[Any], called: npt.NDArray[Any], classes: Sequence[str]) -> None:
    if labels.ndim != 3 or len(labels) == 0 or labels.shape != called.shape:
        raise DataError(
            f"masks {labels.shape} and called masks {called.shape}; expected the same number, at "
            "least one, of the same height and width"
        )
    for what, values in (("masks", labels), ("called masks", called)):
        if values.min() < 0 or values.max() >= len(classes):
            raise DataError(
                f"{what} have values from {values.min()} to {values.max()}; expected 0 to "
                f"{len(classes) - 1}, the indices of {', '.join(classes)}"
            )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
