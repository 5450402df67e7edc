"""Batch norm with frozen statistics: they become part of the convolution before it.

A trained batch norm maps x to weight (x - mean) / deviation + bias. Mean and deviation, which the
pre-training measured, go into the kernel and a bias of the convolution; `weight` and `bias` stay
and are trained on, as a `ScaleShift`. Then nothing is measured on images any more: a pre-trained
model can be trained with differential privacy, and served encrypted.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from primia_flwr.models.layers.scale_shift import ScaleShift


def has_statistics(state: Mapping[str, Tensor]) -> bool:
    """Whether arrays by name are those of a model with batch norm."""
    return any(name.endswith(".running_mean") for name in state)


def freeze_statistics(model: nn.Module) -> None:
    """Replace every batch norm by its scale and shift, in place.

    The statistics go into the convolution that was registered before it in the same module.
    """
    for parent in list(model.modules()):
        before: nn.Conv2d | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                before = child
            elif isinstance(child, nn.BatchNorm2d):
                assert before is not None, f"{name} stands after no convolution"
                setattr(parent, name, _frozen(child, before))


@torch.no_grad()
def _frozen(norm: nn.BatchNorm2d, before: nn.Conv2d) -> ScaleShift:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    deviation = (variance + norm.eps).sqrt()
    bias = torch.zeros_like(mean) if before.bias is None else before.bias
    before.bias = nn.Parameter((bias - mean) / deviation)
    before.weight = nn.Parameter(before.weight / deviation.view(-1, 1, 1, 1))
    frozen = ScaleShift(norm.num_features)
    frozen.weight.copy_(norm.weight)
    frozen.bias.copy_(norm.bias)
    return frozen
