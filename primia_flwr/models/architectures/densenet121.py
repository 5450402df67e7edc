"""DenseNet-121: each layer reads the channels of all before it in its block; torchvision's names.

8.0 million parameters with its 1,000 classes, 7.0 million without. torchvision's weights of
ImageNet fit, under the names in its files, too.

Source: Huang et al. 2017, Densely Connected Convolutional Networks.
"""

import re
from typing import Any, cast

from torch import Tensor, nn

from primia_flwr.compat import torchvision
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import activation, global_pool, norm_layer

_WIDTH = 1024
_OLD_NAME = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")


class DenseNet121(nn.Module):
    """A stem, four blocks of 6, 12, 24 and 16 layers, global pooling, one linear layer."""

    def __init__(self, cfg: ModelConfig, outputs: int, channels: int) -> None:
        super().__init__()
        known = torchvision.models.densenet121()
        self.features = cast(nn.Sequential, known.features)
        for parent in list(self.features.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, name, norm_layer(cfg)(child.num_features))
                elif isinstance(child, nn.ReLU):
                    setattr(parent, name, activation(cfg))
        if channels != 3:
            self.features.conv0 = _stem(channels)
        self.relu = activation(cfg)
        self.pool = global_pool(cfg)
        self.classifier = nn.Linear(_WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W at least 32, to logits (N, classes)."""
        maps = self.relu(self.features(x))
        return self.classifier(self.pool(maps).flatten(1))  # type: ignore[no-any-return]


def _stem(channels: int) -> nn.Conv2d:
    stem = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(stem.weight)
    return stem


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return DenseNet121(cfg, outputs, channels)


def _own_name(name: str) -> str:
    """Return this model's name of an array of torchvision's file, e.g. norm1 for norm.1."""
    found: Any = _OLD_NAME.fullmatch(name)
    return f"{found[1]}{found[2]}" if found else name


MODEL = Architecture(
    _build,
    stem="features.conv0.weight",
    head="classifier",
    min_image_size=32,
    explained="features.norm5",
    map_side=lambda pixels: pixels // 32,
    finer=(
        ("features.denseblock3", lambda pixels: pixels // 16),
        ("features.denseblock2", lambda pixels: pixels // 8),
        ("features.denseblock1", lambda pixels: -(-pixels // 4)),
    ),
    torchvision_name="densenet121",
    own_name=_own_name,
    norms=("batch", "group"),
)
