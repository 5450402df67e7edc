"""Where in an image a model found its answer: Grad-CAM maps of a few test cases.

A map tells which places of the last convolutional layer spoke for the class that the model
predicted. It does not tell why, and a map on the lungs is no proof that the finding was read.

Source: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2; computed by captum, whose only door
this module is.
"""

from __future__ import annotations

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
from primia_flwr.statistics.arrays import FloatArray, IntArray

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

    Parameters
    ----------
    labels : (N,) int64
        True classes.
    probabilities : (N, C) float64
        Rows sum to one.
    per_class : int
        How many right ones, and how many wrong ones, of each class; at least 0. There may be
        fewer.
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
        class. The layer's map is enlarged bilinearly.

    Raises
    ------
    ConfigError
        If the architecture is not in the table.
    DataError
        If there is not one class an image.
    """
    from captum.attr import LayerGradCam  # only here: it takes a second to import

    check_choice("model.name", architecture, MODELS)
    if len(classes) != len(images):
        raise DataError(f"{len(classes)} classes for {len(images)} images; expected one an image")
    layer, training = model.get_submodule(MODELS[architecture].explained), model.training
    explainer = LayerGradCam(model.eval(), layer)
    device = next(model.parameters()).device
    maps = []
    try:
        for start in range(0, len(images), _AT_ONCE):
            part = images[start : start + _AT_ONCE].to(device).requires_grad_()
            target = torch.tensor(classes[start : start + _AT_ONCE], device=device)
            found = explainer.attribute(part, target, relu_attributions=True)
            maps.append(functional.interpolate(found, part.shape[2:], mode="bilinear").detach())
    finally:
        model.train(training)
    return _scaled(torch.cat(maps)[:, 0].float().cpu().numpy())


def map_side(architecture: str, image_size: int) -> int:
    """Return the cells along each side of the layer's map, of square images of that size."""
    return int(MODELS[architecture].map_side(image_size))


def _scaled(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    peaks = maps.max(axis=(1, 2), keepdims=True)
    scaled: npt.NDArray[np.float32] = np.zeros_like(maps)
    np.divide(maps, peaks, out=scaled, where=peaks > 0)
    return scaled
