"""MobileNetV2: depthwise convolutions between narrow ends, ReLU6; torchvision's parameter names.

3.5 million parameters with its 1,000 classes, 2.2 million without. torchvision's weights of
ImageNet fit. Dropout is left out.

Source: Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks.
"""

from typing import cast

from torch import Tensor, nn

from primia_flwr.compat import torchvision
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import activation, global_pool, norm_layer

_WIDTH = 1280


class MobileNetV2(nn.Module):
    """A stem, seventeen inverted residuals, a wide convolution, pooling, one linear layer."""

    def __init__(self, cfg: ModelConfig, outputs: int, channels: int) -> None:
        super().__init__()
        known = torchvision.models.MobileNetV2(norm_layer=norm_layer(cfg))
        self.features = cast(nn.Sequential, known.features)
        for parent in list(self.features.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.ReLU6):
                    setattr(parent, name, activation(cfg, most=6))
        if channels != 3:
            cast(nn.Sequential, self.features[0])[0] = _stem(channels)
        self.pool = global_pool(cfg)
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(_WIDTH, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W at least 32, to logits (N, classes)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


def _stem(channels: int) -> nn.Conv2d:
    stem = nn.Conv2d(channels, 32, kernel_size=3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    return stem


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return MobileNetV2(cfg, outputs, channels)


MODEL = Architecture(
    _build,
    stem="features.0.0.weight",
    head="classifier",
    min_image_size=32,
    explained="features.18",
    map_side=lambda pixels: -(-pixels // 32),
    finer=(
        ("features.13", lambda pixels: -(-pixels // 16)),
        ("features.6", lambda pixels: -(-pixels // 8)),
        ("features.3", lambda pixels: -(-pixels // 4)),
    ),
    torchvision_name="mobilenet_v2",
    norms=("batch", "group", "frozen"),
)
