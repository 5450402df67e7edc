"""Rectifiers through which an attacker sees which way their switches would turn.

The gradient of a ReLU network by its weights depends on the images through the switches x > 0 as
well, and these have no derivative: descent on a distance of gradients is blind to them. Here the
forward pass and the first derivative are ReLU's own, exactly; only the derivative of that one is
replaced, by that of a logistic step. So the distance at the true images is still 0.

Source: surrogate derivatives of a step, as in Neftci, Mostafa & Zenke 2019, section 3; their use
for gradient inversion is ours.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

_SLOPE = 1.0  # of the logistic step, per standard deviation of a normalised activation


class _Step(torch.autograd.Function):
    """x > 0, with the derivative of a logistic step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(_SLOPE * x)
        return gradient * _SLOPE * s * (1 - s)


class _Rectify(torch.autograd.Function):
    """max(x, 0), whose derivative is a `_Step` of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return cast(Tensor, gradient * _Step.apply(x))  # type: ignore[no-untyped-call]


class SwitchedReLU(nn.Module):
    """nn.ReLU with a surrogate for its second derivative."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself."""
        return cast(Tensor, _Rectify.apply(x))  # type: ignore[no-untyped-call]


def replace_rectifiers(model: nn.Module) -> None:
    """Put a `SwitchedReLU` in the place of every nn.ReLU of a model, which is changed."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU):
            setattr(model, name, SwitchedReLU())
        else:
            replace_rectifiers(child)
