"""The pictures of one segmentation: Dice of each image, and the masks of single ones."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from primia_flwr.plotting import COLOURS, DASHES, WIDE, Plot, drawing, line_style, to_plot
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.tasks.masks.scores import score_cases
from primia_flwr.tasks.predictions import Predictions

_SHOWN = 5  # images of each kind


def dice_of_images(predictions: Predictions) -> Plot:
    """Draw the Dice of each image from the worst to the best, a line a class."""
    names = predictions.names
    dice = score_cases(predictions.labels, predictions.outputs, len(names)).values["dice"]
    words = []
    with drawing(6.2, 3.8, grid="both") as (figure, axes):
        for k, name in enumerate(names[1:]):
            known = np.sort(dice[~np.isnan(dice[:, k]), k])
            if not known.size:
                continue
            share = (np.arange(known.size) + 0.5) / known.size
            style = line_style(k, marker=False)
            axes.plot(100 * share, known, label=name, **style)
            low, middle = np.percentile(known, (10, 50))
            words.append(f"{name}: median {middle:.2f}, a tenth below {low:.2f}")
        axes.set(xlim=(0, 100), ylim=(0, 1.02), xlabel="images, % from the worst", ylabel="Dice")
        if words:
            axes.legend(loc="lower right")
    return to_plot("dice", figure, f"Dice of each image, sorted. {'; '.join(words)}.")


def chosen_cases(predictions: Predictions) -> tuple[FloatArray, dict[str, IntArray]]:
    """Return the Dice of each image, and the rows of the worst, the middle and the best."""
    cases = score_cases(predictions.labels, predictions.outputs, len(predictions.names))
    dice = cases.image_dice()
    order = np.argsort(dice, kind="stable")
    middle = len(order) // 2
    return dice, {
        "worst": order[:_SHOWN],
        "middle": order[max(0, middle - _SHOWN // 2) : middle + (_SHOWN + 1) // 2],
        "best": order[::-1][:_SHOWN],
    }


def single_cases(predictions: Predictions) -> Plot:
    """Draw the worst, the middle and the best images by Dice: what is true, and what was called.

    The masks alone, or outlines on the images that may be shown. The number is the line in
    predictions.csv, 1 for the first.
    """
    dice, groups = chosen_cases(predictions)
    words = []
    with drawing(WIDE, 6.4, len(groups), _SHOWN, grid="", squeeze=False) as (figure, panels):
        for axes in panels.flat:
            axes.set_axis_off()
        for line, (kind, rows) in zip(panels, groups.items(), strict=True):
            for axes, row in zip(line, rows, strict=False):
                _draw(axes, predictions, int(row))
                axes.set_title(f"{row + 1}: Dice {dice[row]:.2f}", fontsize=9)
            words.append(f"{kind}: " + ", ".join(f"line {row + 1} {dice[row]:.2f}" for row in rows))
    name = "overlays" if predictions.pictures else "cases"
    return to_plot(name, figure, f"Masks of single test images. {'; '.join(words)}.")


def _draw(axes: Axes, predictions: Predictions, row: int) -> None:
    true, called = _in_rows(predictions.labels[row]), _in_rows(predictions.outputs[row])
    picture, classes = predictions.pictures.get(row), len(predictions.names)
    picture = None if picture is None else _in_rows(picture)
    if picture is None:
        axes.imshow(true, cmap="Greys", vmin=0, vmax=2 * classes, interpolation="none")
    else:
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none")
        _outlines(axes, true, classes, ["white"], width=2.6)
    _outlines(axes, called, classes, COLOURS, width=1.4)


def _in_rows(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return square slices side by side (H, D * H) as about as many rows as columns."""
    height, width = picture.shape[:2]
    slices = width // height
    if slices < 2 or width % height:
        return picture
    a_row = math.ceil(math.sqrt(slices))
    missing = np.zeros((height, (-slices % a_row) * height), picture.dtype)
    whole = np.concatenate([picture, missing], axis=1)
    return np.concatenate(np.split(whole, whole.shape[1] // (a_row * height), axis=1))


def _outlines(
    axes: Axes, mask: npt.NDArray[Any], classes: int, colours: Sequence[str], *, width: float
) -> None:
    for k in range(1, classes):
        region = (mask == k).astype(float)
        if 0 < region.sum() < region.size:
            colour, dash = colours[k % len(colours)], DASHES[k % len(DASHES)]
            axes.contour(region, levels=[0.5], linewidths=width, colors=[colour], linestyles=[dash])
