"""Score a model on images: probabilities, loss and the confusion matrix."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import DataError
from primia_flwr.training.normalisation import Normalisation

AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Evaluation:
    """Sums over images, which add up over sites.

    `loss_sum`: of the plain cross entropy, in nats. `confusion`: int64 (C, C), rows are the
    true classes, columns the predicted ones.
    """

    loss_sum: float
    num_examples: int
    confusion: npt.NDArray[np.int64]

    def __add__(self, other: "Evaluation") -> "Evaluation":
        return Evaluation(
            self.loss_sum + other.loss_sum,
            self.num_examples + other.num_examples,
            self.confusion + other.confusion,
        )

    @property
    def loss(self) -> float:
        """Mean cross entropy, in nats."""
        return self.loss_sum / self.num_examples

    @property
    def accuracy(self) -> float:
        """Share of the images predicted right."""
        return float(np.trace(self.confusion)) / self.num_examples

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the sensitivities of the classes that have images."""
        images = self.confusion.sum(axis=1)
        present = images > 0
        return float(np.mean(np.diag(self.confusion)[present] / images[present]))

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient in [-1, 1]; 0 if all images or predictions are alike.

        Source: Gorodkin 2004, the R_K statistic.
        """
        confusion = self.confusion.astype(np.float64)
        true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        total = confusion.sum()
        covariance = np.trace(confusion) * total - true @ predicted
        variances = (total**2 - true @ true) * (total**2 - predicted @ predicted)
        return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "loss_sum": self.loss_sum,
            "num_examples": self.num_examples,
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evaluation":
        """Rebuild what `to_dict` wrote."""
        confusion = np.asarray(values["confusion"], dtype=np.int64)
        return cls(float(values["loss_sum"]), int(values["num_examples"]), confusion)


def predict(
    model: nn.Module,
    data: LabelledImages,
    *,
    normalisation: Normalisation,
    batch_size: int,
    device: torch.device,
    precision: str = "fp32",
) -> npt.NDArray[np.float64]:
    """Return the softmax probabilities (N, C), in the order of the images.

    Raises
    ------
    DataError
        If there are no images.
    """
    logits = _logits(model, data, normalisation, batch_size, device, precision)
    probabilities: npt.NDArray[np.float64] = logits.softmax(dim=1).numpy()
    return probabilities


def evaluate(
    model: nn.Module,
    data: LabelledImages,
    *,
    normalisation: Normalisation,
    batch_size: int,
    device: torch.device,
    precision: str = "fp32",
) -> Evaluation:
    """Return loss and confusion matrix of a model; the model stays in its mode.

    Parameters
    ----------
    model : nn.Module
        Moved to `device`.
    data : LabelledImages
        At least one image.
    normalisation : Normalisation
        Of the pixels.
    batch_size : int
        Images at a time.
    device : torch.device
        Where to compute.
    precision : str
        fp32, bf16 or fp16.

    Raises
    ------
    DataError
        If there are no images.
    """
    logits = _logits(model, data, normalisation, batch_size, device, precision)
    classes, count = logits.shape[1], len(data)
    cells = data.labels * classes + logits.argmax(dim=1)
    confusion = torch.bincount(cells, minlength=classes * classes).view(classes, classes)
    loss = functional.cross_entropy(logits, data.labels, reduction="sum")
    return Evaluation(float(loss), count, confusion.numpy())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which the model's forward pass runs."""
    dtype = AUTOCAST_TYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def _logits(
    model: nn.Module,
    data: LabelledImages,
    normalisation: Normalisation,
    batch_size: int,
    device: torch.device,
    precision: str,
) -> Tensor:
    """Return float64 logits (N, C) on the CPU."""
    if len(data) == 0:
        raise DataError("there are no images to evaluate; expected at least one")
    model.to(device)
    parts = []
    with _evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(data), batch_size):
            images = data.images[start : start + batch_size].to(device, non_blocking=True)
            with autocast(device, precision):
                parts.append(model(normalisation.apply(images)))
        return torch.cat(parts).double().cpu()


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
