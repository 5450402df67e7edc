"""The arrays of a model that no site sends back: untrained ones, and a site's own layers.

A site's own layers leave it in no message. With `model.shared=no_norm` they are the norm layers,
scale, shift and statistics (FedBN); with `body` the head (FedPer). They begin as those of the first
model, which everybody knows.

Source: Li et al. 2021, FedBN; Arivazhagan et al. 2019, Federated Learning with Personalization
Layers.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.models.layers.common import NORM_LAYERS
from primia_flwr.models.registry import build_model

_Array = TypeVar("_Array")


def frozen_arrays(cfg: ModelConfig, *, outputs: int, channels: int) -> frozenset[str]:
    """Return the names of the arrays that `model.trainable` or `model.shared` leaves out.

    Statistics of batch norm are not among the untrained: such a layer measures on.
    """
    if cfg.sends_all:
        return frozenset()
    return frozen_of(cfg, _without_numbers(cfg, outputs=outputs, channels=channels))


def check_shared(cfg: ModelConfig, *, channels: int) -> None:
    """Refuse a model of which each site would keep all that is trained.

    Raises
    ------
    ConfigError
        If nothing would be shared.
    """
    if not cfg.keeps_layers:
        return
    model = _without_numbers(cfg, outputs=2, channels=channels)
    if not without(dict(model.named_parameters()), frozen_of(cfg, model)):
        raise ConfigError(
            f"model.shared={cfg.shared} with model.name={cfg.name}; expected all: each site would "
            "keep all that is trained of this model, and share nothing"
        )


def _without_numbers(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(cfg, outputs=outputs, channels=channels, first_weights=False)


def frozen_of(cfg: ModelConfig, model: nn.Module) -> frozenset[str]:
    """Return the names of a built model's arrays that are not trained, or stay at each site."""
    untrained = frozenset(name for name, p in model.named_parameters() if not p.requires_grad)
    return untrained | own_of(cfg, model)


def own_of(cfg: ModelConfig, model: nn.Module) -> frozenset[str]:
    """Return the names of a built model's float arrays that each site keeps for itself."""
    if not cfg.keeps_layers:
        return frozenset()
    layers = [name for name, module in model.named_modules() if _is_own(cfg, name, module)]
    return frozenset(
        name
        for name, value in model.state_dict().items()
        if value.is_floating_point() and any(name.startswith(f"{layer}.") for layer in layers)
    )


def without(arrays: Mapping[str, _Array], names: Iterable[str]) -> dict[str, _Array]:
    """Return arrays by name, without some of them, in their order."""
    return {name: array for name, array in arrays.items() if name not in names}


def _is_own(cfg: ModelConfig, name: str, module: nn.Module) -> bool:
    if cfg.shared == "no_norm":
        return isinstance(module, NORM_LAYERS)
    return bool(name == MODELS[cfg.name].head)
