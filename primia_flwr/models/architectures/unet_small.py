"""A small U-Net: a class for each pixel, 30 thousand parameters.

The noise of a private step grows with the square root of the parameters, so a small network learns
where a larger one is drowned; and a small set of images overfits it less.
"""

from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.architectures.unet import UNet

_WIDTHS = (8, 16, 32)


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return UNet(cfg, outputs, channels, _WIDTHS)


MODEL = Architecture(
    _build,
    stem="down.0.0.weight",
    head="head",
    min_image_size=16,
    explained="down.2",
    map_side=lambda pixels: pixels // 4,
    norms=("batch", "group", "none"),
    dense=4,
)
