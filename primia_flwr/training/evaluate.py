"""Score a model on images: what its outputs mean, and the sums of its task."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import DataError
from primia_flwr.tasks.task import Evaluation
from primia_flwr.training.normalisation import Normalisation

AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def predict(
    model: nn.Module,
    data: LabelledImages,
    *,
    normalisation: Normalisation,
    batch_size: int,
    device: torch.device,
    precision: str = "fp32",
) -> npt.NDArray[np.float64]:
    """Return what the outputs mean to the task, e.g. probabilities (N, C), in the images' order.

    Raises
    ------
    DataError
        If there are no images.
    """
    logits = _logits(model, data, normalisation, batch_size, device, precision)
    probabilities: npt.NDArray[np.float64] = data.task.probabilities(logits).numpy()
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
    """Return loss and counts of a model; the model stays in its mode.

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
    loss_sum, counts = data.task.measure(logits, data.labels)
    return Evaluation(data.task, loss_sum, len(data), counts)


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
    parts, layout, on_gpu = [], _layout(model), device.type == "cuda"
    with _evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(data), batch_size):
            images = data.images[start : start + batch_size]
            if on_gpu:
                images = images.pin_memory()
            images = normalisation.apply(images.to(device, non_blocking=True))
            if on_gpu:
                images = images.to(memory_format=layout)
            with autocast(device, precision):
                parts.append(model(images))
        return torch.cat(parts).double().cpu()


def _layout(model: nn.Module) -> torch.memory_format:
    """Return the layout of a model's kernels, in which a GPU need not turn the images around."""
    kernels = [p for p in model.parameters() if p.dim() == 4 and not p.is_contiguous()]
    last = any(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    return torch.channels_last if last else torch.contiguous_format


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
