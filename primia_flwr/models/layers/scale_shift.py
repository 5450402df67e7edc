"""A scale and a shift for each channel: what a norm layer learns, without its normalisation.

Networks without normalisation (`models.norm_free`) have it where others have a norm layer. It
computes nothing from the images, so it keeps the gradients of images apart, and it can be folded
into the convolution before it. Like weight standardisation it stands below the models and the
privacy engine because both know it.
"""

import torch
from torch import Tensor, nn


class ScaleShift(nn.Module):
    """y = weight x + bias by channel; begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_channels = channels
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same."""
        weight, bias = (p.to(x.dtype).view(-1, 1, 1) for p in (self.weight, self.bias))
        return x * weight + bias

    def extra_repr(self) -> str:
        """Name the number of channels."""
        return str(self.num_channels)
