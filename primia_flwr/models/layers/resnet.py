"""ResNet-18, -34 and -50 with torchvision's parameter names, so that its weights fit.

Source: He et al. 2016, Deep Residual Learning for Image Recognition.
"""

from collections.abc import Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from primia_flwr.compat import torchvision
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import global_pool, norm_layer
from primia_flwr.models.layers.norm_free_resnet import (
    NormFreeBasicBlock,
    NormFreeBottleneck,
    finish_norm_free,
)

_resnet = torchvision.models.resnet


class _OutOfPlaceBasicBlock(_resnet.BasicBlock):  # type: ignore[misc, name-defined]
    """torchvision's basic block without in-place changes, as per-sample hooks need it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return cast(Tensor, self.relu(out + identity))


class _OutOfPlaceBottleneck(_resnet.Bottleneck):  # type: ignore[misc, name-defined]
    """torchvision's bottleneck block without in-place changes."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return cast(Tensor, self.relu(out + identity))


# (basic or bottleneck, norm) -> block
BLOCKS = {
    ("basic", "batch"): _resnet.BasicBlock,
    ("bottleneck", "batch"): _resnet.Bottleneck,
    ("basic", "group"): _OutOfPlaceBasicBlock,
    ("bottleneck", "group"): _OutOfPlaceBottleneck,
    ("basic", "none"): NormFreeBasicBlock,
    ("bottleneck", "none"): NormFreeBottleneck,
    ("basic", "frozen"): _OutOfPlaceBasicBlock,
    ("bottleneck", "frozen"): _OutOfPlaceBottleneck,
}


def resnet(name: str, kind: str, blocks: Sequence[int]) -> Architecture:
    """Return the row of a ResNet: basic or bottleneck blocks, so many in each of four stages."""
    return Architecture(
        partial(_build, kind=kind, blocks=tuple(blocks)),
        stem="conv1.weight",
        head="fc",
        min_image_size=16,
        explained="layer4",
        map_side=lambda pixels: -(-pixels // 32),  # its strided convolutions are padded
        finer=(
            ("layer3", lambda pixels: -(-pixels // 16)),
            ("layer2", lambda pixels: -(-pixels // 8)),
            ("layer1", lambda pixels: -(-pixels // 4)),
        ),
        torchvision_name=name,
    )


def _build(
    cfg: ModelConfig, *, outputs: int, channels: int, kind: str, blocks: Sequence[int]
) -> nn.Module:
    model = cast(
        nn.Module,
        _resnet.ResNet(BLOCKS[kind, cfg.norm], list(blocks), outputs, norm_layer=norm_layer(cfg)),
    )
    model.avgpool = global_pool(cfg)
    if channels != 3:
        model.conv1 = _stem(channels)
    if cfg.norm == "none":
        finish_norm_free(model)
    if cfg.norm in ("group", "frozen"):
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
    return model


def _stem(channels: int) -> nn.Conv2d:
    stem = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem
