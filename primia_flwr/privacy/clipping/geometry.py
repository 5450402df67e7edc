"""Where a convolution's kernel stands over its input, and its weight gradient."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Kernel size, stride, padding (zeros) and dilation by axis, and the groups."""

    kernel: _Pair
    stride: _Pair = (1, 1)
    padding: _Pair = (0, 0)
    dilation: _Pair = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, layer: nn.Conv2d) -> "Geometry":
        """Read it off a layer whose padding is given in numbers."""
        pairs = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        kernel, stride, padding, dilation = (cast(_Pair, pair) for pair in pairs)
        return cls(kernel, stride, padding, dilation, layer.groups)

    def patch_sums(self, x: Tensor) -> Tensor:
        """Return the sum of all entries under the kernel, all channels: (N, 1, H', W')."""
        ones = torch.ones(1, 1, *self.kernel, dtype=x.dtype, device=x.device)
        pixels = x.sum(dim=1, keepdim=True)
        return functional.conv2d(pixels, ones, None, self.stride, self.padding, self.dilation)

    def weight_gradient(self, x: Tensor, dy: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of the kernel (O, C / groups, h, w), summed over the batch.

        `x` is the input (N, C, H, W), `dy` the gradient of the output (N, O, H', W').
        """
        moves, only_weight = (self.stride, self.padding, self.dilation), (False, True, False)
        found: list[Tensor] = torch.ops.aten.convolution_backward(
            dy, x, weight, None, *moves, False, (0, 0), self.groups, only_weight
        )
        return found[1]
