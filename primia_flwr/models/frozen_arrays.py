"""The arrays of a model that its training leaves as they are: no site sends them back."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.registry import build_model

_Array = TypeVar("_Array")


def frozen_arrays(cfg: ModelConfig, *, outputs: int, channels: int) -> frozenset[str]:
    """Return the names of the arrays that `model.trainable` or `model.shared` leaves out.

    Statistics of batch norm are not among them: a layer that is not trained measures on.
    """
    if cfg.trainable == "all":
        return frozenset()
    with torch.device("meta"):
        model = build_model(cfg, outputs=outputs, channels=channels, first_weights=False)
    return frozen_of(model)


def frozen_of(model: nn.Module) -> frozenset[str]:
    """Return the names of a model's parameters that are not trained."""
    return frozenset(name for name, p in model.named_parameters() if not p.requires_grad)


def without(arrays: Mapping[str, _Array], names: Iterable[str]) -> dict[str, _Array]:
    """Return arrays by name, without some of them, in their order."""
    return {name: array for name, array in arrays.items() if name not in names}
