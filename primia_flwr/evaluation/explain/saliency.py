"""Where in an image a model found its answer: Grad-CAM maps of a few test cases.

A map tells which places of a convolutional layer spoke for the class that the model predicted; the
layer is the last one whose map has 7 x 7 cells. It does not tell why, and a map on the lungs is no
proof that the finding was read.

Source: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2; computed by captum, whose only door
this module is.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.config.checks import check_choice
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import DataError
from primia_flwr.evaluation.explain.cases import ENOUGH_CELLS
from primia_flwr.statistics.arrays import FloatArray, IntArray

_ROUNDING = 1e-5  # of what speaks most, for or against
_AT_ONCE = 8  # images of which the gradients are held at the same time


@dataclass(frozen=True)
class Case:
    """One test image that is shown.

    `index`: its row among the predictions, from 0. `label`, `predicted`: indices of classes.
    `confidence`: the predicted class's probability, in (0, 1].
    """

    index: int
    label: int
    predicted: int
    confidence: float

    @property
    def right(self) -> bool:
        """Whether the model predicted the true class."""
        return self.label == self.predicted


def choose_cases(
    labels: IntArray, probabilities: FloatArray, *, per_class: int
) -> tuple[Case, ...]:
    """Return, of every true class, the most confident right and the most confident wrong cases.

    Nothing is drawn by chance: of equally confident images the earlier one is taken.

    `labels`: (N,) int64, true classes. `probabilities`: (N, C) float64, whose rows sum to one.
    `per_class`: right ones, and wrong ones, of each class, at least 0; there may be fewer.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    chosen: list[Case] = []
    for label in range(probabilities.shape[1]):
        for right in (True, False):
            rows = np.flatnonzero((labels == label) & ((predicted == labels) == right))
            order = rows[np.argsort(-confidence[rows], kind="stable")][:per_class]
            chosen += [
                Case(int(row), label, int(predicted[row]), float(confidence[row])) for row in order
            ]
    return tuple(chosen)


def grad_cam(
    model: nn.Module, architecture: str, images: Tensor, classes: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Return how strongly each place speaks for a class, at the size of the images.

    Parameters
    ----------
    model : nn.Module
        Stays in its mode and on its device; no gradient is left in its parameters.
    architecture : str
        The name of a model.
    images : (N, C, S, S) float32
        Normalised, as the model expects them.
    classes : sequence of N int
        The class that is explained, of each image.

    Returns
    -------
    (N, S, S) float32
        Each map in [0, 1], 1 at its own strongest place; all 0 where nothing speaks for the
        class. The layer's map is enlarged bilinearly. Of sequences (N, S, T S): T frames.

    Raises
    ------
    ConfigError
        If the architecture is not in the table.
    DataError
        If there is not one class an image.
    """
    with warnings.catch_warnings(action="ignore"):  # its progress bar asks notebooks for widgets
        from captum.attr import LayerGradCam  # only here: it takes a second to import

    layer_name, _ = explained_layer(architecture, images.shape[-1])
    if len(classes) != len(images):
        raise DataError(f"{len(classes)} classes for {len(images)} images; expected one an image")
    layer, training = model.get_submodule(layer_name), model.training
    explainer = LayerGradCam(model.eval(), layer)
    device = next(model.parameters()).device
    maps = []
    try:
        for start in range(0, len(images), _AT_ONCE):
            part = images[start : start + _AT_ONCE].to(device).requires_grad_()
            target = torch.tensor(classes[start : start + _AT_ONCE], device=device)
            found = _spoke_for(explainer.attribute(part, target).detach())
            maps.append(_side_by_side(found, part))
    finally:
        model.train(training)
    return _scaled(torch.cat(maps)[:, 0].float().cpu().numpy())


def _side_by_side(found: Tensor, images: Tensor) -> Tensor:
    """Enlarge maps (N, 1, h, w) to (N, 1, S, S); those of T frames an image to (N, 1, S, T S)."""
    enlarged = functional.interpolate(found, images.shape[2:], mode="bilinear")
    by_frame = enlarged.reshape(len(images), -1, *enlarged.shape[1:])
    return by_frame.permute(0, 2, 3, 1, 4).flatten(3)


def explained_layer(architecture: str, image_size: int) -> tuple[str, int]:
    """Return the module that is mapped and the cells along a side of its map.

    It is the last one with `ENOUGH_CELLS` of square images of that size, else the one with most.

    Raises
    ------
    ConfigError
        If the architecture is not in the table.
    """
    check_choice("model.name", architecture, MODELS)
    row = MODELS[architecture]
    layers = [(name, int(side(image_size)))
              for name, side in ((row.explained, row.map_side), *row.finer)]  # fmt: skip
    enough = [layer for layer in layers if layer[1] >= ENOUGH_CELLS]
    return enough[0] if enough else max(layers, key=lambda layer: layer[1])


def _spoke_for(attribution: Tensor) -> Tensor:
    """Return the positive part (N, 1, H, W) of a map; nothing where that is rounding only."""
    positive = functional.relu(attribution)
    peak, size = (one.amax(dim=(1, 2, 3), keepdim=True) for one in (positive, attribution.abs()))
    return torch.where(peak > _ROUNDING * size, positive, torch.zeros_like(positive))


def _scaled(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    peaks = maps.max(axis=(1, 2), keepdims=True)
    scaled: npt.NDArray[np.float32] = np.zeros_like(maps)
    np.divide(maps, peaks, out=scaled, where=peaks > 0)
    return scaled
