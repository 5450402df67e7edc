"""A sequence of grey frames: one small convolutional network for each frame, then time.

`temporal=mean`: the mean of the frames' features, so, the classifier being linear, the mean of
their logits: frames vote. `temporal=conv`: a convolution over three frames in a row, and a
classifier that weighs each position: it can tell what changes. Both are convolutions, ReLUs and
means, which encrypted inference has; a recurrent network's gates are not.

Source: Yue et al. 2019, Privacy-preserving Time-series Medical Images Analysis Using a Hybrid Deep
Learning Framework (HE-CLSTM), for the order: network a frame, time, weights, vote.
"""

from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models.architecture import Architecture
from primia_flwr.models.layers.common import activation, global_pool, norm_layer
from primia_flwr.models.layers.frames import PerFrame, Together
from primia_flwr.models.layers.norm_free import scale_chain

_WIDTHS = (32, 64, 64)
_IN_A_ROW = 3


class SequenceNet(nn.Module):
    """Three convolutions of stride 2 a frame, global pooling; time; one linear layer.

    `frames`: T, at least 1; of one frame it is a network of single images.
    """

    def __init__(self, cfg: ModelConfig, outputs: int, frames: int) -> None:
        super().__init__()
        self.frame = PerFrame(frames, *_blocks(cfg), global_pool(cfg), nn.Flatten())
        self.temporal, features = _temporal(cfg, frames)
        if cfg.norm == "none":
            scale_chain(self.frame)
            scale_chain(self.temporal)
        self.classifier = nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences (N, T, H, W), H and W at least 16, to logits (N, classes)."""
        return self.classifier(self.temporal(self.frame(x)).flatten(1))  # type: ignore[no-any-return]


def _blocks(cfg: ModelConfig) -> list[nn.Module]:
    norm, channels = norm_layer(cfg), 1
    layers: list[nn.Module] = []
    for width in _WIDTHS:
        convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, norm(width), activation(cfg)]
        channels = width
    return layers


def _temporal(cfg: ModelConfig, frames: int) -> tuple[nn.Sequential, int]:
    """Return what makes features of sequences of those of frames, (N T, D), and how many."""
    width = _WIDTHS[-1]
    if cfg.temporal == "mean":
        return nn.Sequential(Together(frames), nn.AdaptiveAvgPool2d((1, None))), width
    in_a_row = min(_IN_A_ROW, frames)
    convolution = nn.Conv2d(1, width, (in_a_row, width))
    layers = nn.Sequential(Together(frames), convolution, activation(cfg))
    return layers, width * (frames - in_a_row + 1)


def _build(cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
    return SequenceNet(cfg, outputs, channels)


MODEL = Architecture(
    _build,
    stem="",
    head="classifier",
    min_image_size=16,
    explained="frame.8",
    map_side=lambda pixels: -(-pixels // 8),
    finer=(
        ("frame.5", lambda pixels: -(-pixels // 4)),
        ("frame.2", lambda pixels: -(-pixels // 2)),
    ),
    sequences=True,
)
