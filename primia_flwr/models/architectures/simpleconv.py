"""A small convolutional network: four convolutions, each halving the resolution."""

from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import activation, global_pool, norm_layer
from primia_flwr.models.layers.norm_free import scale_chain

_WIDTHS = (32, 64, 128, 256)


class SimpleConv(nn.Module):
    """Four blocks of convolution, norm, ReLU and pooling; global pooling; one linear layer."""

    def __init__(self, cfg: ModelConfig, outputs: int, channels: int) -> None:
        super().__init__()
        norm = norm_layer(cfg)
        layers: list[nn.Module] = []
        for width in _WIDTHS:
            convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, norm(width), activation(cfg), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        if cfg.norm == "none":
            scale_chain(self.features)
        self.pool = global_pool(cfg)
        self.classifier = nn.Linear(_WIDTHS[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W), H and W at least 16, to logits (N, classes)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return SimpleConv(cfg, outputs, channels)


MODEL = Architecture(
    _build,
    stem="features.0.weight",
    head="classifier",
    min_image_size=16,
    explained="features.14",
    map_side=lambda pixels: pixels // 8,
    finer=(("features.10", lambda pixels: pixels // 4), ("features.6", lambda pixels: pixels // 2)),
)
