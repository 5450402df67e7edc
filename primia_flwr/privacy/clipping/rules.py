"""How each kind of layer is clipped: its units' squared norms, and the clipped sum.

A rule sees a `Record` of a layer for a micro-batch of units. The gradient of a unit is the sum over
its views (the loss has their mean).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.errors import ConfigError
from primia_flwr.models.layers.scale_shift import ScaleShift
from primia_flwr.models.layers.weight_standardisation import WSConv2d
from primia_flwr.privacy.clipping.convolution import ConvolutionRule, StandardisedConvolutionRule
from primia_flwr.privacy.clipping.record import Record, Rule, Sums


class _ScaleShiftRule:
    """Scale and shift of each channel: few enough to keep the gradients of all units."""

    def __init__(self, layer: ScaleShift | nn.GroupNorm) -> None:
        self._scale = layer.weight if layer.weight.requires_grad else None
        self._shift = layer.bias if layer.bias.requires_grad else None

    def squared_norms(self, record: Record) -> Tensor:
        """Add up the squares of the units' gradients, and keep these."""
        record.kept.extend(self._gradients(record))
        return torch.stack([g.double().square().sum(dim=1) for g in record.kept]).sum(dim=0)

    def clipped(self, record: Record, factors: Tensor) -> Sums:
        """Weigh and add up."""
        sums = [torch.tensordot(factors, gradient, dims=1) for gradient in record.kept]
        trainable = [p for p in (self._scale, self._shift) if p is not None]
        return list(zip(trainable, sums, strict=True))

    def _gradients(self, record: Record) -> list[Tensor]:
        """Return (units, C) for the scale and for the shift."""
        found = []
        if self._scale is not None:
            found.append(record.by_unit(self._scaled(record.x) * record.dy))
        if self._shift is not None:
            found.append(record.by_unit(record.dy))
        return found

    def _scaled(self, x: Tensor) -> Tensor:
        """Return what the scale multiplies."""
        return x


class _GroupNormRule(_ScaleShiftRule):
    """A group norm: the scale multiplies the normalised input."""

    def __init__(self, layer: nn.GroupNorm) -> None:
        super().__init__(layer)
        self._layer = layer

    def _scaled(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, self._layer.num_groups, eps=self._layer.eps)


class _LinearRule:
    """A linear layer over (N, features): each view is one position. In float64, as it is small."""

    def __init__(self, layer: nn.Linear) -> None:
        self._weight = layer.weight if layer.weight.requires_grad else None
        self._bias = layer.bias if layer.bias is not None and layer.bias.requires_grad else None

    def squared_norms(self, record: Record) -> Tensor:
        """Multiply Gram matrices over views; the bias is an input that is always 1."""
        if record.x.dim() != 2:
            raise ConfigError(
                f"a Linear layer has an input {tuple(record.x.shape)}; expected (images, features)"
            )
        x, dy = (v.double().view(record.units, record.views, -1) for v in (record.x, record.dy))
        outputs = torch.bmm(dy, dy.transpose(1, 2))
        inputs = torch.zeros_like(outputs)
        if self._weight is not None:
            inputs += torch.bmm(x, x.transpose(1, 2))
        if self._bias is not None:
            inputs += 1
        return (inputs * outputs).sum(dim=(1, 2))

    def clipped(self, record: Record, factors: Tensor) -> Sums:
        """Make one matrix product for all units."""
        dy = record.scaled(factors).double()
        sums: Sums = []
        if self._weight is not None:
            sums.append((self._weight, (dy.t() @ record.x.double()).to(record.dy.dtype)))
        if self._bias is not None:
            sums.append((self._bias, dy.sum(dim=0).to(record.dy.dtype)))
        return sums


_RULES: dict[type[nn.Module], Callable[[Any], Rule]] = {
    nn.Conv2d: ConvolutionRule,
    WSConv2d: StandardisedConvolutionRule,
    nn.Linear: _LinearRule,
    nn.GroupNorm: _GroupNormRule,
    ScaleShift: _ScaleShiftRule,
}


def rule_for(layer: nn.Module) -> Rule:
    """Return the rule of a layer that `admission.check_model` has let in."""
    return _RULES[type(layer)](layer)
