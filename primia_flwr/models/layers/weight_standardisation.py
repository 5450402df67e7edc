"""Weight standardisation: a convolution whose kernels have mean 0 and standard deviation 1.

For the D entries w of one output channel, w_hat = (w - mean(w)) / sigma with
sigma^2 = var(w) + eps, var the biased variance. For g = dL/dw_hat, w_hat having mean 0,

    dL/dw = (g - mean(g) - w_hat mean(w_hat g)) / sigma,

exactly, eps included. It stands below the models and the privacy engine because both know it:
the engine's clipping needs this formula, and its norm without the gradient itself. A layer may use
c w_hat in place of w_hat, c a constant of the architecture; the gradient is then c times that.

Source: Qiao et al. 2019, Micro-Batch Training with Batch-Channel Normalization and Weight
Standardization.
"""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

_EPS = 1e-6
_Kind = TypeVar("_Kind", bound=nn.Conv2d)


@dataclass(frozen=True)
class Standardised:
    """A kernel (O, C, h, w) with standardised channels, and the deviations (O,) they had.

    `scale`: the constant that the kernel is multiplied by before it is used.
    """

    kernel: Tensor
    sigma: Tensor
    scale: float = 1.0

    @property
    def used(self) -> Tensor:
        """The kernel as the convolution uses it."""
        return self.kernel * self.scale

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Turn a gradient of the kernel in use, (O, C, h, w), into the raw kernel's."""
        centred = gradient - gradient.mean(dim=(1, 2, 3), keepdim=True)
        along = (self.kernel * gradient).mean(dim=(1, 2, 3), keepdim=True)
        return (centred - self.kernel * along) * (self.scale / self.sigma).view(-1, 1, 1, 1)


def standardise(weight: Tensor, *, eps: float = _EPS, scale: float = 1.0) -> Standardised:
    """Standardise the kernel of each output channel; differentiable.

    Parameters
    ----------
    weight : Tensor
        (O, C, h, w) floating point.
    eps : float
        Added to the variance, above 0: a constant kernel becomes 0.
    scale : float
        Above 0; what the kernel is multiplied by before it is used.
    """
    centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
    sigma = (centred.square().mean(dim=(1, 2, 3)) + eps).sqrt()
    return Standardised(centred / sigma.view(-1, 1, 1, 1), sigma, scale)


class WSConv2d(nn.Conv2d):
    """A convolution that standardises its kernel at each use; the raw kernel is what is learnt.

    `kernel_scale`: a constant of the architecture, above 0, that the kernel is multiplied by.
    """

    kernel_scale: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, H', W')."""
        return self._conv_forward(x, self.standardised().used, self.bias)  # type: ignore[no-any-return]

    def standardised(self) -> Standardised:
        """Return the kernel as it is used now; differentiable."""
        return standardise(self.weight, scale=self.kernel_scale)

    @classmethod
    def like(cls, layer: nn.Conv2d) -> "WSConv2d":
        """Return the standardising twin of a convolution; it takes over the parameters."""
        twin = twin_of(layer, cls)
        twin.weight, twin.bias = layer.weight, layer.bias
        return twin


def twin_of(layer: nn.Conv2d, kind: type[_Kind]) -> _Kind:
    """Return a convolution of another kind with the same geometry; its parameters are on `meta`."""
    return kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
        device="meta",
    )
