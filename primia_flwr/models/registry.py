"""The closed table of models, and the one function that builds them."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models.architectures.resnet import build_resnet
from primia_flwr.models.architectures.scattering import build_scattering
from primia_flwr.models.architectures.simpleconv import build_simpleconv
from primia_flwr.models.architectures.vgg import build_vgg
from primia_flwr.models.layers.common import freeze, standardise_kernels
from primia_flwr.models.weights import load_first_weights
from primia_flwr.models.weights_card import check_kind


class Builder(Protocol):
    """Builds a model with random weights from PyTorch's global generator."""

    def __call__(self, cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
        """Return the model."""


@dataclass(frozen=True)
class Architecture:
    """One row of the table: how to build it, and the names that loading weights must know.

    `min_image_size`: the smallest side, in pixels, that its poolings leave something of.
    `torchvision_name` is the key of torchvision's table of weights, empty where it has none.
    """

    build: Builder
    stem: str
    head: str
    min_image_size: int
    torchvision_name: str = ""


MODELS: dict[str, Architecture] = {
    "resnet18": Architecture(build_resnet, "conv1.weight", "fc", 16, "resnet18"),
    "resnet34": Architecture(build_resnet, "conv1.weight", "fc", 16, "resnet34"),
    "resnet50": Architecture(build_resnet, "conv1.weight", "fc", 16, "resnet50"),
    "vgg16": Architecture(build_vgg, "features.0.weight", "classifier", 32, "vgg16_bn"),
    "simpleconv": Architecture(build_simpleconv, "features.0.weight", "classifier", 16),
    "scattering": Architecture(build_scattering, "", "classifier", 32),
}


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
        At least 2.
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
    check_choice("model.name", cfg.name, MODELS)
    check_choice("data.channels", str(channels), ("1", "3"))
    check_range("number of classes", outputs, 2, example=3)
    architecture = MODELS[cfg.name]
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
    smallest = MODELS[cfg.name].min_image_size
    if image_size < smallest:
        raise ConfigError(
            f"data.image_size={image_size} with model.name={cfg.name}; expected {smallest} or "
            "more, e.g. data.image_size=64"
        )
