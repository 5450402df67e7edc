"""A model as one row: how it is built, and the names that loading and explaining must know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import nn

from primia_flwr.config.experiment.training import ModelConfig

if TYPE_CHECKING:
    from primia_flwr.models.pretrained import PackagedWeights


class Builder(Protocol):
    """Builds a model with random weights from PyTorch's global generator."""

    def __call__(self, cfg: ModelConfig, *, outputs: int, channels: int) -> nn.Module:
        """Return the model: images (N, channels, H, W) -> logits (N, outputs)."""


@dataclass(frozen=True)
class Architecture:
    """One model; the file that defines it as `MODEL` names it.

    Parameters
    ----------
    build : Builder
        Returns it with random weights.
    stem : str
        The parameter that depends on the number of channels; empty where none does.
    head : str
        The module whose width is the number of outputs.
    min_image_size : int
        The smallest side, in pixels, that its poolings leave something of.
    explained : str
        The module whose output saliency maps show: the activations of the last convolution.
    map_side : callable
        Cells along each side of that output, of square images of so many pixels.
    finer : sequence of (str, callable)
        Earlier modules with more cells, the last first, for images that leave `explained` few.
    torchvision_name : str
        The key of torchvision's table of weights, empty where it has none.
    packaged : PackagedWeights, optional
        The ImageNet weights, where a package brings them.
    own_name : callable
        Returns its name of an array, given that in torchvision's file.
    norms : tuple of str
        The values of `model.norm` that it has.
    has_norm : bool
        Whether `model.norm`, `.norm_groups`, `.pool` and `.weight_standardisation` mean anything.
    dense : int
        0, or where it has the outputs at each pixel, logits (N, outputs, H, W): of what number the
        sides of its images are multiples.
    sequences : bool
        Whether the channels of its images are the frames of a sequence.
    clipped : bool
        Whether the gradient of each patient can be clipped, as private training does.
    """

    build: Builder
    stem: str
    head: str
    min_image_size: int
    explained: str
    map_side: Callable[[int], int]
    finer: tuple[tuple[str, Callable[[int], int]], ...] = ()
    torchvision_name: str = ""
    packaged: "PackagedWeights | None" = None
    own_name: Callable[[str], str] = str
    norms: tuple[str, ...] = ("batch", "group", "none", "frozen")
    has_norm: bool = True
    dense: int = 0
    sequences: bool = False
    clipped: bool = True

    @property
    def has_imagenet(self) -> bool:
        """Whether `model.weights=imagenet` means anything."""
        return bool(self.torchvision_name or self.packaged)
