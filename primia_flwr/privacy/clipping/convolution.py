"""How convolutions are clipped, with plain and with standardised kernels.

Two ways to the norm of a unit's kernel gradient: Gram matrices over positions (`gram`), cheap where
maps are small, or the gradient itself, unit by unit, cheap where kernels are small. Both are
counted, and the cheaper one is taken: mixed ghost clipping. The clipped sum is one ordinary weight
gradient of the whole micro-batch, of dy times each unit's factor: book-keeping.

Where positions cancel, rounding can be large against what is left, in the norm and in the sum.
So each norm is raised by an allowance in proportion to what could have cancelled: by ROUNDINGS
units of rounding times the square of the sum over positions of |x_t| |dy_t|. That also bounds how
ill-conditioned a unit's part of the sum can be: |x_t| |dy_t| times the unit's factor add up to no
more than clip_norm / sqrt(8 * 2^-23), about 1000 clip_norm.

Source: Bu et al. 2022, Scalable and Efficient Training of Large Convolutional Neural Networks with
Differential Privacy (mixed ghost clipping); Bu et al. 2023, Differentially Private Optimization on
Large Model at Small Cost (book-keeping: one backward pass).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from primia_flwr.models.layers.weight_standardisation import Standardised, WSConv2d, standardise
from primia_flwr.privacy.clipping.geometry import Geometry
from primia_flwr.privacy.clipping.gram import multiplications, squared_norms
from primia_flwr.privacy.clipping.record import Record, Sums

_ROUNDINGS = 8
# Multiplications that take as long as writing and reading back one entry of a unit's own gradient.
_ENTRY = 120


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
            kernel = self.by_gram(record) if by_gram else self.by_gradients(record)
            norms += kernel.clamp(min=0) + self.allowance(record)
        if self._bias is not None:
            record.kept.append(record.by_unit(record.dy))
            norms += record.kept[0].double().square().sum(dim=1)
        return norms

    def clipped(self, record: Record, factors: Tensor) -> Sums:
        """Make one weight gradient for all units."""
        sums: Sums = []
        if self._weight is not None:
            dy = record.scaled(factors)
            gradient = self._geometry.weight_gradient(record.x, dy, self._weight)
            sums.append((self._weight, self._pull_back()(gradient)))
        if self._bias is not None:
            sums.append((self._bias, torch.tensordot(factors, record.kept[0], dims=1)))
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
        """Return the squared norms by Gram matrices, (units,) float64."""
        return squared_norms(record.x, record.dy, self._geometry, record.views).double()

    def by_gradients(self, record: Record) -> Tensor:
        """Return the squared norms by each unit's own gradient, (units,) float64."""
        pull_back = self._pull_back()
        norms = []
        for unit in range(record.units):
            own = record.of_unit(unit)
            gradient = self._geometry.weight_gradient(own.x, own.dy, self._layer.weight)
            norms.append(torch.linalg.vector_norm(pull_back(gradient)))
        return torch.stack(norms).double().square()

    def allowance(self, record: Record) -> Tensor:
        """Return what rounding is allowed for, (units,) float64."""
        patches = self._geometry.patch_sums(record.x.square()).sqrt()
        outputs = torch.linalg.vector_norm(self._per_deviation(record.dy), dim=1, keepdim=True)
        total = record.by_unit(patches * outputs).double().squeeze(1)
        return total.square() * (_ROUNDINGS * torch.finfo(record.dy.dtype).eps)

    def _pull_back(self) -> Callable[[Tensor], Tensor]:
        """Return what turns a gradient of the kernel in use into one of the parameter."""
        return lambda gradient: gradient

    def _per_deviation(self, dy: Tensor) -> Tensor:
        """Return dy as the kernel's scale makes it count."""
        return dy


class StandardisedConvolutionRule(ConvolutionRule):
    """A convolution with a standardised kernel: the gradient of the raw one.

    With g the gradient of the standardised kernel w_hat (D entries a channel, deviation sigma),
    the squared norm of a channel's raw gradient is
    (|g|^2 - sum(g)^2 / D - <w_hat, g>^2 (2 - |w_hat|^2 / D) / D) / sigma^2.
    Its parts need no g: |g| / sigma is a Gram norm of dy / sigma, <w_hat, g> is the sum over
    positions of y dy, and sum(g) that of dy times the sum of the patch. Where the layer uses
    c w_hat (`kernel_scale`), g is c times the gradient of the kernel in use, and y c times w_hat's.
    """

    def __init__(self, layer: WSConv2d) -> None:
        super().__init__(layer)
        self._scale = layer.kernel_scale

    def by_gram(self, record: Record) -> Tensor:
        """Return the squared norms by Gram matrices and the two parts that are taken off."""
        kernel = self._standardised.kernel
        dy = self._per_deviation(record.dy)
        norms = squared_norms(record.x, dy, self._geometry, record.views).double()
        total = record.by_unit(dy * self._geometry.patch_sums(record.x)).double()
        along = record.by_unit(dy * self._of_kernel(record.y)).double()
        shrink = 2 - kernel.double().square().flatten(1).mean(dim=1)
        taken = (total.square() + along.square() * shrink).sum(dim=1) / kernel[0].numel()
        return norms - taken

    def allowance(self, record: Record) -> Tensor:
        """Allow for the rounding of three parts."""
        return 3 * super().allowance(record)

    @property
    def _standardised(self) -> Standardised:
        return standardise(self._layer.weight.detach(), scale=self._scale)

    def _of_kernel(self, y: Tensor) -> Tensor:
        """Return what w_hat alone makes of the input."""
        bias = self._layer.bias
        return (y if bias is None else y - bias.detach().view(-1, 1, 1)) / self._scale

    def _pull_back(self) -> Callable[[Tensor], Tensor]:
        return self._standardised.pull_back

    def _per_deviation(self, dy: Tensor) -> Tensor:
        return dy * (self._scale / self._standardised.sigma).view(-1, 1, 1)
