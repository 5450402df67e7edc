"""Score a model on images: what its outputs mean, and the sums of its task."""

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import DataError
from primia_flwr.tasks.task import Counts, Evaluation, Task
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
) -> npt.NDArray[Any]:
    """Return what the outputs mean to the task, e.g. probabilities (N, C), in the cases' order.

    A case is an image, or a study of `data.studies`.

    Raises
    ------
    DataError
        If there are no images.
    """
    logits = _logits(model, data, normalisation, batch_size, device, precision)
    return np.concatenate([data.task.probabilities(part).numpy() for part in logits])


def evaluate(
    model: nn.Module,
    data: LabelledImages,
    *,
    normalisation: Normalisation,
    batch_size: int,
    device: torch.device,
    precision: str = "fp32",
) -> Evaluation:
    """Return loss and counts of a model on the cases of `data`; the model stays in its mode.

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
    parts, start, labels = [], 0, data.cases().known(data.labels)
    drawn = _one_a_patient(data) if data.task.counts_patients else None
    for logits in _logits(model, data, normalisation, batch_size, device, precision):
        part = slice(start, start + len(logits))
        chosen = None if drawn is None else drawn[part]
        parts.append(Evaluation(data.task, *_measured(data.task, logits, labels[part], chosen)))
        start += len(logits)
    return reduce(operator.add, parts)


def _measured(
    task: Task, logits: Tensor, labels: Tensor, drawn: Tensor | None
) -> tuple[float, int, Counts]:
    loss_sum, counts = task.measure(logits, labels)
    if drawn is not None:
        counts = {**counts, **task.measure_patients(logits[drawn], labels[drawn])}
    return loss_sum, len(labels), counts


def _one_a_patient(data: LabelledImages) -> Tensor:
    """Return which images count for their patients, (N,) bool: of each the one of least hash."""
    least: dict[str, tuple[bytes, int]] = {}
    for row, (file, patient) in enumerate(zip(data.files, data.patients, strict=True)):
        found = (hashlib.sha256(file.encode()).digest(), row)
        least[patient] = min(least.get(patient, found), found)
    drawn = torch.zeros(len(data), dtype=torch.bool)
    drawn[[row for _, row in least.values()]] = True
    return drawn


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
) -> Iterator[Tensor]:
    """Yield float64 logits on the CPU: (cases, C), or batch by batch where each pixel has some."""
    if len(data) == 0:
        raise DataError("there are no images to evaluate; expected at least one")
    model.to(device)
    layout, on_gpu, kept = _layout(model), device.type == "cuda", list[Tensor]()
    with _evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(data), batch_size):
            images = data.images[start : start + batch_size]
            if on_gpu:
                images = images.pin_memory()
            images = normalisation.apply(images.to(device, non_blocking=True))
            if on_gpu:
                images = images.to(memory_format=layout)
            with autocast(device, precision):
                kept.append(model(images))
            if data.task.masked:
                yield kept.pop().double().cpu()
        if kept:
            yield data.cases().mean(torch.cat(kept).double().cpu())


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
