"""The frames of a sequence through the same layers: each is a row of the batch for a while.

A sequence of T grey frames is an image of T channels. `apart` makes it T images, which are
neighbours in the batch, and `together` makes the features of neighbours one map again. Neither
moves a number, so under encryption each party reshapes its share and no message is sent.
"""

import torch.fx
from torch import Tensor, nn

from primia_flwr.errors import ConfigError


def apart(images: Tensor, frames: int) -> Tensor:
    """Turn sequences (N, T, H, W) into images (N T, 1, H, W).

    Raises
    ------
    ConfigError
        If they have another number of frames.
    """
    if images.shape[1] != frames:
        raise ConfigError(
            f"sequences of {images.shape[1]} frames; expected {frames}, with which the model was "
            f"made: give data.frames={frames}"
        )
    return images.reshape(-1, 1, *images.shape[2:])


def together(features: Tensor, frames: int) -> Tensor:
    """Turn features of frames (N T, D) into maps of time by feature, (N, 1, T, D)."""
    return features.reshape(-1, 1, frames, features.shape[1])


# Each is one step of a traced network, where this module calls it.
torch.fx.wrap("apart")
torch.fx.wrap("together")


class PerFrame(nn.Sequential):
    """Layers that see each frame by itself: (N, T, H, W) to what they make of (N T, 1, H, W).

    `frames`: T. The rows of one sequence are neighbours, as who clips gradients must know.
    """

    def __init__(self, frames: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.frames = frames

    def forward(self, images: Tensor) -> Tensor:
        """Map sequences to rows of frames."""
        out: Tensor = super().forward(apart(images, self.frames))  # type: ignore[no-untyped-call]
        return out


class Together(nn.Module):
    """`together` as a layer."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, features: Tensor) -> Tensor:
        """Map (N T, D) to (N, 1, T, D)."""
        return together(features, self.frames)


def frames_of(model: nn.Module) -> dict[nn.Module, int]:
    """Return how many rows of an image the layers see that see more than one."""
    parents = [part for part in model.modules() if isinstance(part, PerFrame)]
    return {layer: parent.frames for parent in parents for layer in parent.modules()}
