"""The one function that builds a model, of the closed table in `architectures`."""

import torch
from torch import nn

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import freeze, standardise_kernels
from primia_flwr.models.weights import load_first_weights
from primia_flwr.models.weights_card import check_kind


def _architecture_of(name: str) -> Architecture:
    """Return the row of a model."""
    check_choice("model.name", name, MODELS)
    row: Architecture = MODELS[name]
    return row


def build_model(
    cfg: ModelConfig,
    *,
    outputs: int,
    channels: int,
    seed: int | None = None,
    first_weights: bool = True,
) -> nn.Module:
    """Build a model: images (N, channels, H, W) float -> logits (N, outputs).

    Parameters
    ----------
    cfg : ModelConfig
        The architecture and its first weights.
    outputs : int
        Width of the last layer, as the task says; at least 1.
    channels : int
        1 (grey) or 3 (colour).
    seed : int, optional
        Seed of the random weights; PyTorch's global generator is left as it was. Without it
        the global generator is used.
    first_weights : bool
        False leaves `cfg.weights` aside, for callers that load other weights anyway: a site
        that receives the global model must neither download nor open a file for it.

    Raises
    ------
    ConfigError
        If the weights cannot be had, or belong to another architecture.
    """
    check_choice("data.channels", str(channels), ("1", "3"))
    check_range("number of outputs", outputs, 1, example=3)
    architecture = _architecture_of(cfg.name)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model = architecture.build(cfg, outputs=outputs, channels=channels)
    if cfg.weight_standardisation:
        standardise_kernels(model)
    freeze(model, cfg.trainable, head=architecture.head)
    if first_weights and cfg.weights != "none":
        check_kind(cfg)
        load_first_weights(
            model,
            cfg.weights,
            stem=architecture.stem,
            head=architecture.head,
            torchvision_name=architecture.torchvision_name,
        )
    return model


def check_image_size(cfg: ModelConfig, image_size: int) -> None:
    """Refuse images that are too small for a model.

    Raises
    ------
    ConfigError
        If nothing would remain of them after the model's poolings.
    """
    smallest = _architecture_of(cfg.name).min_image_size
    if image_size < smallest:
        raise ConfigError(
            f"data.image_size={image_size} with model.name={cfg.name}; expected {smallest} or "
            "more, e.g. data.image_size=64"
        )
