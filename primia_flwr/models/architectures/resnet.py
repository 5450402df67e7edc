"""ResNet-18, -34 and -50 with torchvision's parameter names, so that its weights fit.

Source: He et al. 2016, Deep Residual Learning for Image Recognition.
"""

from typing import cast

from torch import Tensor, nn

from primia_flwr.compat import torchvision
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architectures.norm_free_resnet import (
    NormFreeBasicBlock,
    NormFreeBottleneck,
    finish_norm_free,
)
from primia_flwr.models.layers.common import global_pool, norm_layer

_resnet = torchvision.models.resnet

# name: (basic or bottleneck blocks, blocks in each of the four stages)
LAYOUTS = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}


class OutOfPlaceBasicBlock(_resnet.BasicBlock):  # type: ignore[misc, name-defined]
    """torchvision's basic block without in-place changes, as per-sample hooks need it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return cast(Tensor, self.relu(out + identity))


class OutOfPlaceBottleneck(_resnet.Bottleneck):  # type: ignore[misc, name-defined]
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
    ("basic", "group"): OutOfPlaceBasicBlock,
    ("bottleneck", "group"): OutOfPlaceBottleneck,
    ("basic", "none"): NormFreeBasicBlock,
    ("bottleneck", "none"): NormFreeBottleneck,
}


def build_resnet(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    """Build a ResNet with random weights; images (N, channels, H, W) -> logits (N, outputs)."""
    kind, layers = LAYOUTS[cfg.name]
    model = cast(
        nn.Module,
        _resnet.ResNet(
            BLOCKS[kind, cfg.norm], layers, outputs, norm_layer=norm_layer(cfg)
        ),
    )
    model.avgpool = global_pool(cfg)
    if channels != 3:
        model.conv1 = _stem(channels)
    if cfg.norm == "none":
        finish_norm_free(model)
    if cfg.norm == "group":
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
    return model


def _stem(channels: int) -> nn.Conv2d:
    stem = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem
