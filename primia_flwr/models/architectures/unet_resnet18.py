"""U-Net whose way down is a ResNet-18: a class for each pixel, 14 million parameters.

The way down is that of `resnet18`, so that its ImageNet weights fit; the way up is the `unet`'s.
The head is the whole way up: `trainable=head` keeps the way down as it is, `shared=body` leaves the
way up at the site.

Source: Ronneberger et al. 2015, U-Net; He et al. 2016, ResNet.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.architectures import resnet18
from primia_flwr.models.layers.double_convolution import DoubleConvolution

_DOWN = (64, 64, 128, 256, 512)  # channels at 1/2, 1/4, 1/8, 1/16, 1/32 of the resolution
_UP = (256, 128, 64, 32, 16)  # at 1/16, 1/8, 1/4, 1/2, 1


class _Down(nn.Module):
    """A ResNet-18 without its classifier."""

    def __init__(self, cfg: ModelConfig, channels: int) -> None:
        super().__init__()
        whole = resnet18.MODEL.build(cfg, outputs=1, channels=channels)
        for name, part in whole.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, part)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (N, C, H, W) to five maps, each of half the sides of the one before."""
        part = cast(dict[str, nn.Module], self._modules)
        maps = [part["relu"](part["bn1"](part["conv1"](x)))]
        maps.append(part["layer1"](part["maxpool"](maps[0])))
        for name in ("layer2", "layer3", "layer4"):
            maps.append(part[name](maps[-1]))
        return maps


class _Up(nn.Module):
    """Blocks beside what the way down had, and a convolution of one pixel."""

    def __init__(self, cfg: ModelConfig, outputs: int) -> None:
        super().__init__()
        below, beside = (_DOWN[-1], *_UP[:-1]), (*_DOWN[-2::-1], 0)
        self.blocks = nn.ModuleList(
            DoubleConvolution(cfg, lower + same, width, pooled=1)
            for lower, same, width in zip(below, beside, _UP, strict=True)
        )
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = nn.Conv2d(_UP[-1], outputs, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map what the way down gave to logits (N, classes, H, W)."""
        x, *kept = reversed(maps)
        for block, same in zip(self.blocks, [*kept, None], strict=True):
            larger = self.enlarge(x)
            x = block(larger if same is None else torch.cat([same, larger], dim=1))
        return self.last(x)  # type: ignore[no-any-return]


class _UNetResNet18(nn.Module):
    """The way down, and the way up as the head."""

    def __init__(self, cfg: ModelConfig, outputs: int, channels: int) -> None:
        super().__init__()
        self.down = _Down(cfg, channels)
        self.head = _Up(cfg, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W multiples of 32, to logits (N, classes, H, W)."""
        return self.head(self.down(x))  # type: ignore[no-any-return]


def _own_name(name: str) -> str:
    """Return the name of an array of ResNet-18, or of this network; `fc` is a head that differs."""
    if name.startswith(("down.", "head.")):
        return name
    return f"head.{name}" if name.startswith("fc.") else f"down.{name}"


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return _UNetResNet18(cfg, outputs, channels)


MODEL = Architecture(
    _build,
    stem="down.conv1.weight",
    head="head",
    min_image_size=32,
    explained="down.layer4",
    map_side=lambda pixels: pixels // 32,
    torchvision_name="resnet18",
    own_name=_own_name,
    norms=("batch", "group"),
    dense=32,
)
