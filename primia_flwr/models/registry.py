"""The one function that builds a model, of the closed table in `architectures`."""

import torch
from torch import Tensor, nn

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.data import MOST_FRAMES
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import freeze, standardise_kernels
from primia_flwr.models.layers.frozen_norm import freeze_statistics, has_statistics
from primia_flwr.models.layers.lora import add_adapters
from primia_flwr.models.weights import IMAGENET, first_state, load_first_weights
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
        1 (grey) or 3 (colour); of a model of sequences the number of frames.
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
    check_range("number of outputs", outputs, 1, example=3)
    architecture = _architecture_of(cfg.name)
    if architecture.sequences:
        check_range("data.frames", channels, 1, MOST_FRAMES, example=5)
    else:
        check_choice("data.channels", str(channels), ("1", "3"))
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model = architecture.build(cfg, outputs=outputs, channels=channels)
        _prepare(model, cfg, architecture, first_weights=first_weights)
    freeze(model, cfg.trainable, head=architecture.head)
    return model


def _prepare(
    model: nn.Module, cfg: ModelConfig, architecture: Architecture, *, first_weights: bool
) -> None:
    """Make a model what `cfg` says besides its architecture, in place."""
    if cfg.weight_standardisation:
        standardise_kernels(model)
    state = _first_state(cfg, architecture) if first_weights else {}
    if cfg.norm == "frozen" and not has_statistics(state):
        freeze_statistics(model)  # the weights are a frozen model's own, or come later
    if state:
        head = architecture.head
        load_first_weights(model, cfg.weights, state, stem=architecture.stem, head=head)
    if cfg.norm == "frozen":
        freeze_statistics(model)
    if cfg.adapted:
        add_adapters(model, head=architecture.head, rank=cfg.lora_rank, alpha=cfg.lora_alpha)


def _first_state(cfg: ModelConfig, architecture: Architecture) -> dict[str, Tensor]:
    """Return the arrays of `model.weights`; nothing for random ones."""
    if cfg.weights == "none":
        return {}
    check_kind(cfg)
    if cfg.weights == IMAGENET and architecture.packaged:
        return architecture.packaged.load()
    found = first_state(cfg.weights, torchvision_name=architecture.torchvision_name)
    return {architecture.own_name(name): value for name, value in found.items()}


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
