"""The arrays of a model that no site sends back: untrained ones, and a site's own layers."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.own_arrays import own_of
from primia_flwr.models.registry import build_model

_Array = TypeVar("_Array")


def frozen_arrays(cfg: ModelConfig, *, outputs: int, channels: int) -> frozenset[str]:
    """Return the names of the arrays that `model.trainable` or `model.shared` leaves out.

    Statistics of batch norm are not among the untrained: such a layer measures on.
    """
    if cfg.sends_all:
        return frozenset()
    with torch.device("meta"):
        model = build_model(cfg, outputs=outputs, channels=channels, first_weights=False)
    return frozen_of(cfg, model)


def frozen_of(cfg: ModelConfig, model: nn.Module) -> frozenset[str]:
    """Return the names of a built model's arrays that are not trained, or stay at each site."""
    untrained = frozenset(name for name, p in model.named_parameters() if not p.requires_grad)
    return untrained | own_of(cfg, model)


def without(arrays: Mapping[str, _Array], names: Iterable[str]) -> dict[str, _Array]:
    """Return arrays by name, without some of them, in their order."""
    return {name: array for name, array in arrays.items() if name not in names}
