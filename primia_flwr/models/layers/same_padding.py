"""TensorFlow's `same` padding, with which some published weights were trained.

Where a stride of 2 meets a map with an even side, it pads one cell less on the left and above than
on the right and below, which no `padding` of PyTorch's convolutions does.
"""

import torch.fx
from torch import Tensor, nn
from torch.nn import functional


def pad_same(x: Tensor, kernel: int) -> Tensor:
    """Pad maps (N, C, H, W) for a convolution of stride 2 and an odd kernel, which halves them.

    Its outputs are ceil(H / 2) by ceil(W / 2).
    """
    return functional.pad(x, same_padding(x.shape[-2], x.shape[-1], kernel))


def same_padding(height: int, width: int, kernel: int) -> tuple[int, int, int, int]:
    """Return the cells to add on the left, on the right, above and below, for a stride of 2."""
    half = kernel // 2
    return half - 1 + width % 2, half, half - 1 + height % 2, half


torch.fx.wrap("pad_same")  # one step of a traced network, whose shapes are not known yet


class PadSame(nn.Module):
    """`pad_same` as a layer."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return pad_same(x, self.kernel)
