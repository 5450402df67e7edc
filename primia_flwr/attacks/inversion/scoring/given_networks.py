"""Measures that need a network whose weights the user gives: LPIPS, and FID's Inception.

Nothing is downloaded. Weights are torchvision's state dicts: of `alexnet`, of `inception_v3`. The
linear heads of LPIPS come with torchmetrics.

Sources: Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features, sect. 3 (LPIPS);
Heusel et al. 2017 (FID); Szegedy et al. 2016 (Inception v3).
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.compat import torchvision

# isort: split
from torchmetrics.functional.image.lpips import _LPIPS

from primia_flwr.errors import ConfigError
from primia_flwr.models.weights import read_state

Perceptual = Callable[[Tensor, Tensor], float]
_LEAST = 31  # pixels along each side, below which AlexNet has nothing left to pool
_SIDE = 299  # pixels along each side of what Inception v3 takes
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's ImageNet weights


def lpips_of(weights: Path, *, image_size: int) -> Perceptual:
    """Return LPIPS (version 0.1, AlexNet) of two images (C, H, W) in [0, 1].

    Parameters
    ----------
    weights : Path
        State dict of torchvision's `alexnet`.
    image_size : int
        Pixels along each side of the images to come, at least 31.

    Raises
    ------
    ConfigError
        If the images are too small, or the file cannot be read or is of another network.
    """
    if image_size < _LEAST:
        raise ConfigError(
            f"lpips={weights} for images of {image_size} pixels; expected images of {_LEAST} "
            "pixels or more; attack a run with a larger data.image_size, or leave lpips empty"
        )
    backbone = torchvision.models.alexnet(weights=None)
    _load(backbone, weights, "lpips", "alexnet")
    network = _LPIPS(net="alex", pnet_rand=True)
    slices = [getattr(network.net, f"slice{k}") for k in range(1, network.net.N_slices + 1)]
    for index, layer in ((i, m) for part in slices for i, m in part.named_children()):
        layer.load_state_dict(backbone.features[int(index)].state_dict())

    def measure(first: Tensor, second: Tensor) -> float:
        with torch.no_grad():
            pair = (_in_colour(first[None]), _in_colour(second[None]))
            return float(network(*pair, normalize=True))

    return measure


class InceptionFeatures(nn.Module):
    """The 2,048 pooled features of Inception v3.

    With torchvision's ImageNet weights, which are not those of TensorFlow that most published FIDs
    are of.

    Parameters
    ----------
    weights : Path
        State dict of torchvision's `inception_v3`.

    Raises
    ------
    ConfigError
        If the file cannot be read or is of another network.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self._network = torchvision.models.inception_v3(
            weights=None, aux_logits=True, transform_input=False, init_weights=False
        )
        _load(self._network, weights, "inception", "inception_v3")
        self._network.fc = nn.Identity()
        self._network.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, 2048)."""
        colour = functional.interpolate(
            _in_colour(images), (_SIDE, _SIDE), mode="bilinear", antialias=True
        )
        mean, std = (torch.tensor(v).view(1, 3, 1, 1).to(colour) for v in (_MEAN, _STD))
        return cast(Tensor, self._network((colour - mean) / std))


def _load(network: nn.Module, weights: Path, key: str, name: str) -> None:
    state = read_state(weights, key=key)
    wrong = sorted(
        set(network.state_dict()) ^ set(state)
        | {n for n, t in network.state_dict().items() if n in state and state[n].shape != t.shape}
    )
    if wrong:
        raise ConfigError(
            f"{key}={weights} does not fit at {wrong[0]} (and {len(wrong) - 1} more); expected "
            f"the state dict of torchvision's {name}"
        )
    network.load_state_dict(state)


def _in_colour(images: Tensor) -> Tensor:
    return images.float().expand(-1, 3, -1, -1) if images.shape[1] == 1 else images.float()
