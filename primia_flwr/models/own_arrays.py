"""The arrays of a model that stay at each site: its own layers, which leave it in no message.

With `model.shared=no_norm` they are the norm layers, scale, shift and statistics (FedBN); with
`body` the head (FedPer). They begin as those of the first model, which everybody knows.

Source: Li et al. 2021, FedBN; Arivazhagan et al. 2019, Federated Learning with Personalization
Layers.
"""

import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.models.layers.common import NORM_LAYERS
from primia_flwr.models.registry import build_model


def own_arrays(cfg: ModelConfig, *, outputs: int, channels: int) -> frozenset[str]:
    """Return the names of the float arrays that each site keeps for itself."""
    if not cfg.keeps_layers:
        return frozenset()
    with torch.device("meta"):
        model = build_model(cfg, outputs=outputs, channels=channels, first_weights=False)
    return own_of(cfg, model)


def own_of(cfg: ModelConfig, model: nn.Module) -> frozenset[str]:
    """Return the names of the float arrays of a built model that each site keeps for itself."""
    if not cfg.keeps_layers:
        return frozenset()
    layers = [
        name
        for name, module in model.named_modules()
        if (isinstance(module, NORM_LAYERS) if cfg.shared == "no_norm" else _is_head(cfg, name))
    ]
    return frozenset(
        name
        for name, value in model.state_dict().items()
        if value.is_floating_point() and any(name.startswith(f"{layer}.") for layer in layers)
    )


def _is_head(cfg: ModelConfig, name: str) -> bool:
    head: str = MODELS[cfg.name].head
    return name == head
