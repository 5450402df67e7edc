"""What each kind of layer contributes to a unit's gradient: its squared norm, and the clipped sum.

A rule sees of a layer its input x, its output y and the gradient dy of y, for a micro-batch of
units whose views are neighbours in the batch. The gradient of a unit is the sum over its views
(the loss has their mean). Two ways to the norm of a kernel's gradient: Gram matrices over positions
(`gram`), cheap where maps are small, or the gradient itself, unit by unit, cheap where kernels are
small. `ConvolutionRule` counts both and takes the cheaper one.

The clipped sum of a kernel is one ordinary weight gradient of the whole micro-batch, of dy times
each unit's factor.

Source: Bu et al. 2022, Scalable and Efficient Training of Large Convolutional Neural Networks with
Differential Privacy (mixed ghost clipping); Bu et al. 2023, Differentially Private Optimization on
Large Model at Small Cost (book-keeping: one backward pass).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.clipping.geometry import Geometry
from primia_flwr.privacy.clipping.gram import multiplications, squared_norms
from primia_flwr.weight_standardisation import Standardised, WSConv2d, standardise

# A Gram norm is rounded. This many times the unit of rounding (eps: 2^-23 in float32) times the
# square of the sum over positions of |x_t| |dy_t| is added, so that it is not below the norm of
# the gradient that is summed.
ROUNDINGS = 8
# Multiplications that take as long as writing and reading back one entry of a unit's own gradient.
_ENTRY = 120


@dataclass(frozen=True)
class Record:
    """What one layer saw: x, y and dy, batch first, `views` neighbours a unit; 32 or 64 bits."""

    x: Tensor
    y: Tensor
    dy: Tensor
    views: int

    @property
    def units(self) -> int:
        """Units of the micro-batch."""
        return self.dy.shape[0] // self.views

    def of_unit(self, unit: int) -> "Record":
        """Return what the layer saw of one unit."""
        part = slice(unit * self.views, (unit + 1) * self.views)
        return Record(self.x[part], self.y[part], self.dy[part], self.views)

    def scaled(self, factors: Tensor) -> Tensor:
        """Return dy times each unit's factor, (units,)."""
        shape = (-1,) + (1,) * (self.dy.dim() - 1)
        return self.dy * factors.repeat_interleave(self.views).view(shape)

    def by_unit(self, values: Tensor) -> Tensor:
        """Sum (units * views, C, positions ...) to (units, C)."""
        return values.flatten(2).sum(dim=2).view(self.units, self.views, -1).sum(dim=1)


Sums = list[tuple[Tensor, Tensor]]


class Rule(Protocol):
    """How one kind of layer is clipped."""

    def squared_norms(self, record: Record) -> Tensor:
        """Return (units,) float64: of the layer's trainable parameters, rounded up."""

    def clipped(self, record: Record, factors: Tensor) -> Sums:
        """Return each trainable parameter with the sum of its gradients times the factors."""


class PerUnitRule:
    """For few parameters: the gradients of all units at once, as (units, entries)."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters

    def gradients(self, record: Record) -> list[Tensor]:
        """Return for each parameter (units, ...)."""
        raise NotImplementedError

    def squared_norms(self, record: Record) -> Tensor:
        """Add up the squares."""
        per_unit = [g.double().square().flatten(1).sum(dim=1) for g in self.gradients(record)]
        return torch.stack(per_unit).sum(dim=0)

    def clipped(self, record: Record, factors: Tensor) -> Sums:
        """Weigh and add up."""
        gradients = self.gradients(record)
        return [
            (parameter, torch.tensordot(factors, gradient, dims=1))
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]


class GroupNormRule(PerUnitRule):
    """Scale and shift of a group norm."""

    def __init__(self, layer: nn.GroupNorm) -> None:
        super().__init__([p for p in (layer.weight, layer.bias) if p.requires_grad])
        self._layer = layer
        self._has = (layer.weight.requires_grad, layer.bias.requires_grad)

    def gradients(self, record: Record) -> list[Tensor]:
        """Return those of the scale, which multiplies the normalised input, and the shift."""
        found = []
        if self._has[0]:
            normalised = functional.group_norm(
                record.x, self._layer.num_groups, eps=self._layer.eps
            )
            found.append(record.by_unit(normalised.mul_(record.dy)))
        if self._has[1]:
            found.append(record.by_unit(record.dy))
        return found


class LinearRule:
    """A linear layer over (N, features): each view is one position."""

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
        """One matrix product for all units."""
        dy = record.scaled(factors)
        sums: Sums = []
        if self._weight is not None:
            sums.append((self._weight, dy.t() @ record.x))
        if self._bias is not None:
            sums.append((self._bias, dy.sum(dim=0)))
        return sums


class ConvolutionRule:
    """A convolution."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self._layer = layer
        self._geometry = Geometry.of(layer)
        self._weight = layer.weight if layer.weight.requires_grad else None
        self._bias = layer.bias if layer.bias is not None and layer.bias.requires_grad else None

    def squared_norms(self, record: Record) -> Tensor:
        """Take the cheaper way for the kernel; the bias by its gradients."""
        norms = torch.zeros(record.units, dtype=torch.float64, device=record.dy.device)
        if self._weight is not None:
            by_gram = self.gram_is_cheaper(record)
            norms += self.by_gram(record) if by_gram else self.by_gradients(record)
        if self._bias is not None:
            norms += record.by_unit(record.dy).double().square().sum(dim=1)
        return norms

    def clipped(self, record: Record, factors: Tensor) -> Sums:
        """One weight gradient for all units."""
        dy = record.scaled(factors)
        sums: Sums = []
        if self._weight is not None:
            gradient = self._geometry.weight_gradient(record.x, dy, self._weight)
            sums.append((self._weight, self._pull_back()(gradient)))
        if self._bias is not None:
            sums.append((self._bias, dy.sum(dim=(0, 2, 3))))
        return sums

    def gram_is_cheaper(self, record: Record) -> bool:
        """Compare the costs of a unit; the choice depends on shapes alone."""
        layer = self._layer
        if layer.groups != 1:
            return False
        positions = record.dy.shape[2] * record.dy.shape[3]
        channels = (layer.in_channels, layer.out_channels)
        gram = multiplications(self._geometry, *channels, positions, record.views)
        return gram < _ENTRY * layer.weight.numel()

    def by_gram(self, record: Record) -> Tensor:
        """Return the squared norms by Gram matrices, with the allowance for rounding."""
        norms, scales = squared_norms(record.x, record.dy, self._geometry, record.views)
        return norms.double().clamp(min=0) + _allowance(scales)

    def by_gradients(self, record: Record) -> Tensor:
        """Return the squared norms by each unit's own gradient."""
        pull_back = self._pull_back()
        norms = []
        for unit in range(record.units):
            own = record.of_unit(unit)
            gradient = self._geometry.weight_gradient(own.x, own.dy, self._layer.weight)
            norms.append(torch.linalg.vector_norm(pull_back(gradient)))
        return torch.stack(norms).double().square()

    def _pull_back(self) -> Callable[[Tensor], Tensor]:
        """Return what turns a gradient of the kernel in use into one of the parameter."""
        return lambda gradient: gradient


class StandardisedConvolutionRule(ConvolutionRule):
    """A convolution with a standardised kernel: the gradient of the raw one.

    With g the gradient of the standardised kernel w_hat (D entries a channel, deviation sigma),
    the squared norm of a channel's raw gradient is
    (|g|^2 - sum(g)^2 / D - <w_hat, g>^2 (2 - |w_hat|^2 / D) / D) / sigma^2.
    Its parts need no g: |g| / sigma is a Gram norm of dy / sigma, <w_hat, g> is the sum over
    positions of y dy, and sum(g) that of dy times the sum of the patch.
    """

    def by_gram(self, record: Record) -> Tensor:
        """Return the squared norms, with the allowance for the rounding of all three parts."""
        standardised = self._standardised
        kernel, sigma = standardised.kernel, standardised.sigma
        scaled = Record(record.x, record.y, record.dy / sigma.view(-1, 1, 1), record.views)
        norms, scales = squared_norms(scaled.x, scaled.dy, self._geometry, scaled.views)
        entries = kernel[0].numel()
        total = scaled.by_unit(scaled.dy * self._patch_sums(scaled.x)).double()
        along = scaled.by_unit(scaled.dy * self._without_bias(scaled.y)).double()
        shrink = 2 - kernel.double().square().flatten(1).mean(dim=1)
        taken = (total.square() + along.square() * shrink).sum(dim=1) / entries
        return (norms.double() - taken).clamp(min=0) + 3 * _allowance(scales)

    @property
    def _standardised(self) -> Standardised:
        return standardise(self._layer.weight.detach())

    def _patch_sums(self, x: Tensor) -> Tensor:
        """Return (N, 1, H', W'): the sum of all entries under the kernel."""
        ones = torch.ones(1, 1, *self._geometry.kernel, dtype=x.dtype, device=x.device)
        geometry = self._geometry
        pixels = x.sum(dim=1, keepdim=True)
        return functional.conv2d(
            pixels, ones, None, geometry.stride, geometry.padding, geometry.dilation
        )

    def _without_bias(self, y: Tensor) -> Tensor:
        bias = self._layer.bias
        return y if bias is None else y - bias.detach().view(-1, 1, 1)

    def _pull_back(self) -> Callable[[Tensor], Tensor]:
        return self._standardised.pull_back


def _allowance(scales: Tensor) -> Tensor:
    return scales.double() * (ROUNDINGS * torch.finfo(scales.dtype).eps)


RULES: dict[type[nn.Module], Callable[[Any], Rule]] = {
    nn.Conv2d: ConvolutionRule,
    WSConv2d: StandardisedConvolutionRule,
    nn.Linear: LinearRule,
    nn.GroupNorm: GroupNormRule,
}


def rule_for(layer: nn.Module) -> Rule:
    """Return the rule of a layer that `admission.check_model` has let in."""
    return RULES[type(layer)](layer)
