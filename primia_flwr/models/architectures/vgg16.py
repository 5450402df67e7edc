"""VGG-16 with norm layers and a small head.

The thirteen convolutions have torchvision's parameter names, so that its weights fit. The
three fully connected layers of the original (120 of its 134 million parameters, which every
round would send) are one linear layer after a global pooling.

Source: Simonyan & Zisserman 2015, configuration D; Ioffe & Szegedy 2015 for the norm layers.
"""

from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import activation, global_pool, norm_layer
from primia_flwr.models.layers.norm_free import scale_chain

# Output channels of the convolutions; 0 halves the resolution.
LAYOUT = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


class VGG(nn.Module):
    """Thirteen convolutions, global pooling, one linear layer."""

    def __init__(self, cfg: ModelConfig, outputs: int, channels: int) -> None:
        super().__init__()
        self.features = _features(cfg, channels)
        self.pool = global_pool(cfg)
        self.classifier = nn.Linear(LAYOUT[-2], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W at least 32, to logits (N, classes)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


def _features(cfg: ModelConfig, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    norm = norm_layer(cfg)
    for width in LAYOUT:
        if width == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        biased = cfg.norm != "none"  # where a norm follows, it is there for torchvision's weights
        convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=biased)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        layers += [convolution, norm(width), activation(cfg)]
        channels = width
    features = nn.Sequential(*layers)
    if cfg.norm == "none":
        scale_chain(features)
    return features


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return VGG(cfg, outputs, channels)


MODEL = Architecture(
    _build,
    stem="features.0.weight",
    head="classifier",
    min_image_size=32,
    explained="features.42",
    map_side=lambda pixels: pixels // 16,
    finer=(
        ("features.32", lambda pixels: pixels // 8),
        ("features.22", lambda pixels: pixels // 4),
    ),
    torchvision_name="vgg16_bn",
)
