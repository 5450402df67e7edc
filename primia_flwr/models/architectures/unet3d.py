"""A 3-D U-Net: a class for each voxel of a stack of slices, 90 thousand parameters.

Twice half the resolution along all three axes and twice the channels, and back up by repeating each
voxel. Slices come as the frames of a sequence, and the classes go side by side, as their masks do.

Source: Çiçek et al. 2016, 3D U-Net; padded convolutions and nearest upsampling, as in `unet`.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import activation, norm_layer

_WIDTHS = (8, 16, 32)
_MULTIPLE = 4  # of the slices and of their sides


class UNet3d(nn.Module):
    """Blocks on the way down, blocks on the way up, and a convolution of one voxel."""

    def __init__(self, cfg: ModelConfig, outputs: int) -> None:
        super().__init__()
        pairs = list(pairwise(_WIDTHS))
        down = [_block(cfg, upper, lower) for upper, lower in ((1, _WIDTHS[0]), *pairs)]
        self.down = nn.ModuleList(down)
        up = [_block(cfg, upper + lower, upper) for upper, lower in reversed(pairs)]
        self.up = nn.ModuleList(up)
        self.pool = nn.MaxPool3d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv3d(_WIDTHS[0], outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map slices (N, D, H, W), all multiples of 4, to logits (N, classes, H, D * W)."""
        kept, x = [], x.unsqueeze(1)
        for block in self.down[:-1]:
            kept.append(block(x))
            x = self.pool(kept[-1])
        x = self.down[-1](x)
        for block in self.up:
            x = block(torch.cat([kept.pop(), self.enlarge(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits.transpose(2, 3).flatten(3)


def _block(cfg: ModelConfig, inputs: int, outputs: int) -> nn.Sequential:
    """Return twice a convolution, a norm and a ReLU."""
    norm = nn.BatchNorm3d if cfg.norm == "batch" else norm_layer(cfg)
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        convolution = nn.Conv3d(width, outputs, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, norm(outputs), activation(cfg)]
    return nn.Sequential(*layers)


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    for key, value, needed in (
        ("weight_standardisation", cfg.weight_standardisation, False),
        ("trainable", "lora" if cfg.adapted else "all", "all"),
    ):
        if value != needed:
            raise ConfigError(
                f"model.{key}={str(value).lower()} with model.name={cfg.name}; expected "
                f"{str(needed).lower()}: it is of convolutions over images, not over volumes"
            )
    return UNet3d(cfg, outputs)


MODEL = Architecture(
    _build,
    stem="",
    head="head",
    min_image_size=16,
    explained="down.2",
    map_side=lambda pixels: pixels // 4,
    norms=("batch", "group"),
    dense=_MULTIPLE,
    sequences=True,
    clipped=False,
)
