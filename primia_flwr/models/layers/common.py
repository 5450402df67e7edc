"""The parts that the architectures share: norm layers, global pooling, standardised kernels."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.layers.lora import Adapted
from primia_flwr.models.layers.scale_shift import ScaleShift
from primia_flwr.models.layers.weight_standardisation import WSConv2d

# What `norm_layer` makes.
NORM_LAYERS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, ScaleShift)


class _GlobalMaxPool(nn.Module):
    """The maximum over the whole map: (N, C, H, W) -> (N, C, 1, 1).

    Unlike `nn.AdaptiveMaxPool2d(1)` its gradient is deterministic on a GPU too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the maximum of each map."""
        return x.amax(dim=(2, 3), keepdim=True)


def norm_layer(cfg: ModelConfig) -> Callable[[int], nn.Module]:
    """Return the constructor of the norm layer that follows a convolution of n channels.

    Without a norm it is what is left of one: a scale and a shift. Where n is no multiple of
    `norm_groups`, a group norm has as many groups as divide both. A frozen norm begins as batch
    norm, whose statistics `frozen_norm` takes away.
    """
    if cfg.norm == "group":
        return lambda channels: nn.GroupNorm(math.gcd(cfg.norm_groups, channels), channels)
    return ScaleShift if cfg.norm == "none" else nn.BatchNorm2d


def global_pool(cfg: ModelConfig) -> nn.Module:
    """Return the pooling that leaves one number a channel."""
    return _GlobalMaxPool() if cfg.pool == "max" else nn.AdaptiveAvgPool2d(1)


def activation(cfg: ModelConfig, *, most: int = 0) -> nn.Module:
    """Return a ReLU, or ReLU6 where `most` is 6: in place with batch norm only.

    Per-sample gradient hooks (differential privacy) cannot see through in-place changes of
    the tensors that they hold.
    """
    return (nn.ReLU6 if most == 6 else nn.ReLU)(inplace=cfg.norm == "batch")


def freeze(model: nn.Module, trainable: str, *, head: str) -> None:
    """Leave a part of the parameters trainable: all, the head, or it with norms or adapters."""
    adapted = [layer for layer in model.modules() if isinstance(layer, Adapted)]
    adapters = {id(part) for layer in adapted for part in (layer.down, layer.up)}
    for name, module in model.named_modules():
        in_head = name == head or name.startswith(f"{head}.")
        norm = trainable == "norm" and isinstance(module, NORM_LAYERS)
        trained = trainable == "all" or in_head or norm or id(module) in adapters
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(trained)
        if norm and isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_ask_for_a_gradient)


def _ask_for_a_gradient(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Give a group norm after frozen layers an input that needs a gradient.

    PyTorch 2.13's backward of a group norm in channels-last layout, on the CPU, ends the process
    with a segmentation fault where only scale and shift need one.
    """
    (x,) = inputs
    return (x if x.requires_grad or not torch.is_grad_enabled() else x.detach().requires_grad_(),)


def standardise_kernels(model: nn.Module) -> None:
    """Replace every convolution by one with standardised kernels, in place.

    The parameters, their names and their values stay, so the same files of weights fit.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d:
                setattr(parent, name, WSConv2d.like(child))
