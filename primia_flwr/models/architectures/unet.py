"""U-Net: a class for each pixel, 0.5 million parameters.

Three times half the resolution and twice the channels, and back up by repeating each pixel, beside
what the way down had at that resolution. Nothing but convolutions, norms, ReLUs, max-pooling,
repetition and concatenation: all of it can be clipped and computed encrypted.

Source: Ronneberger et al. 2015, U-Net; padded convolutions, and nearest upsampling instead of
transposed convolutions (Odena et al. 2016, checkerboard artefacts).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.double_convolution import DoubleConvolution

_WIDTHS = (16, 32, 64, 128)


class UNet(nn.Module):
    """Blocks on the way down, blocks on the way up, and a convolution of one pixel."""

    def __init__(
        self, cfg: ModelConfig, outputs: int, channels: int, widths: Sequence[int] = _WIDTHS
    ) -> None:
        super().__init__()
        first = DoubleConvolution(cfg, channels, widths[0], pooled=0)
        pairs = list(pairwise(widths))
        down = [DoubleConvolution(cfg, upper, lower, pooled=4) for upper, lower in pairs]
        self.down = nn.ModuleList([first, *down])
        up = [
            DoubleConvolution(cfg, upper + lower, upper, pooled=1)
            for upper, lower in reversed(pairs)
        ]
        self.up = nn.ModuleList(up)
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(widths[0], outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W multiples of 8, to logits (N, classes, H, W)."""
        kept = []
        for block in self.down[:-1]:
            kept.append(block(x))
            x = self.pool(kept[-1])
        x = self.down[-1](x)
        for block in self.up:
            x = block(torch.cat([kept.pop(), self.enlarge(x)], dim=1))
        return self.head(x)  # type: ignore[no-any-return]


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return UNet(cfg, outputs, channels)


MODEL = Architecture(
    _build,
    stem="down.0.0.weight",
    head="head",
    min_image_size=16,
    explained="down.3",
    map_side=lambda pixels: pixels // 8,
    norms=("batch", "group", "none"),
    dense=8,
)
