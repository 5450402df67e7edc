"""ResNet's blocks without normalisation; see `norm_free` for the constants.

The ReLU stands before a block's convolutions and not after the sum, so that what runs along the
shortcuts is not rectified and its variance is known. The stem is rectified and pooled as ever,
which is the first block's ReLU; one more follows the last block. So a network has as many ReLUs as
with a norm, and the names of its parameters but for the first shortcut's are the same.

Source: Brock et al. 2021; He et al. 2016, Identity Mappings in Deep Residual Networks (the order).
"""

import math
from typing import Any, cast

from torch import Tensor, nn

from primia_flwr.compat import torchvision
from primia_flwr.models.layers.common import standardise_kernels
from primia_flwr.models.layers.norm_free import ALPHA, scale_kernel
from primia_flwr.models.layers.scale_shift import ScaleShift

_resnet = torchvision.models.resnet


class _Entered:
    """A block with a ReLU, `enter`, before its convolutions, and one of its own between them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.enter: nn.Module = nn.ReLU()
        self.relu = nn.ReLU()


class NormFreeBasicBlock(_Entered, _resnet.BasicBlock):  # type: ignore[misc, name-defined]
    """Two convolutions beside a shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        entered = self.enter(x)
        identity = x if self.downsample is None else self.downsample(entered)
        out = self.relu(self.bn1(self.conv1(entered)))
        return cast(Tensor, self.bn2(self.conv2(out)) + identity)


class NormFreeBottleneck(_Entered, _resnet.Bottleneck):  # type: ignore[misc, name-defined]
    """Three convolutions beside a shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        entered = self.enter(x)
        identity = x if self.downsample is None else self.downsample(entered)
        out = self.relu(self.bn1(self.conv1(entered)))
        out = self.relu(self.bn2(self.conv2(out)))
        return cast(Tensor, self.bn3(self.conv3(out)) + identity)


def finish_norm_free(model: Any) -> None:
    """Make a ResNet of these blocks one without normalisation, in place.

    `model`: of `NormFreeBasicBlock` or `NormFreeBottleneck`, with `ScaleShift` for a norm.
    """
    first = model.layer1[0]
    first.enter = nn.Identity()
    if first.downsample is None:
        first.downsample = _shortcut(first.conv1.in_channels)
    model.layer4.append(nn.ReLU())
    model.relu = nn.ReLU()
    standardise_kernels(model)
    scale_kernel(model.conv1, pooled=0)
    _scale_block(first, beta=1.0, pooled=9)
    beta = math.hypot(1, ALPHA)
    for stage in (model.layer1[1:], model.layer2, model.layer3, model.layer4[:-1]):
        for block in stage:
            _scale_block(block, beta=beta, pooled=1)
            beta = math.hypot(1, ALPHA) if block.downsample is not None else math.hypot(beta, ALPHA)


def _scale_block(block: Any, *, beta: float, pooled: int) -> None:
    *inner, last = [layer for name, layer in block.named_children() if name.startswith("conv")]
    for layer in inner:
        scale_kernel(layer, pooled=1)
    scale_kernel(last, pooled=1, factor=ALPHA)
    scale_kernel(block.conv1, pooled=pooled, factor=1 / beta)
    if block.downsample is not None:
        scale_kernel(block.downsample[0], pooled=pooled, factor=1 / beta)


def _shortcut(channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, ScaleShift(channels))
