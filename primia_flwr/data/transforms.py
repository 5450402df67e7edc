"""Random changes of training images, and MixUp.

A mask moves with its image: what changes the geometry changes both alike, what changes the tones
leaves the mask as it is.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from primia_flwr.compat import compiler_later

with compiler_later():
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F
    from torchvision.tv_tensors import Mask

from primia_flwr.config.experiment.data import (
    AffineConfig,
    AugmentationConfig,
    CropConfig,
    EqualiseConfig,
    augmentation_is_off,
)
from primia_flwr.data.files.clahe import equalise_tiles

_Change = Callable[[Tensor, float], Tensor]


class _RandomStrength(nn.Module):
    """Apply `change(image, strength)` with a strength drawn uniformly from [low, high]."""

    def __init__(self, change: _Change, low: float, high: float) -> None:
        super().__init__()
        self.change, self.low, self.high = change, low, high

    def forward(self, image: Tensor, *mask: Tensor) -> Any:
        """(C, H, W) uint8 to the same; a mask stays as it is."""
        strength = _uniform(self.low, self.high)
        return _with(_frame_by_frame(lambda one: self.change(one, strength), image), mask)


class _OnImage(nn.Module):
    """Apply `change(image)`; a mask stays as it is."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, image: Tensor, *mask: Tensor) -> Any:
        """(C, H, W) uint8 to the same; a mask stays as it is."""
        return _with(self.change(image), mask)


class _RandomCropBack(nn.Module):
    """Cut out a part with a random share of the area, of the image's own shape, and resize it."""

    def __init__(self, cfg: CropConfig) -> None:
        super().__init__()
        self.low, self.high = cfg.scale

    def forward(self, image: Tensor, *mask: Tensor) -> Any:
        """(C, H, W) uint8 to the same, and a mask (1, H, W) with it."""
        size = [int(side) for side in image.shape[-2:]]
        factor = _uniform(self.low, self.high) ** 0.5
        height, width = (max(1, round(side * factor)) for side in size)
        top = int(_uniform(0, size[0] - height + 1))
        left = int(_uniform(0, size[1] - width + 1))
        window = (..., slice(top, top + height), slice(left, left + width))
        resized: Tensor = F.resize(image[window], size, antialias=True)
        moved = [Mask(F.resize(one[window], size, InterpolationMode.NEAREST_EXACT)) for one in mask]
        return _with(resized, moved)


def _frame_by_frame(change: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Change all frames (C, H, W) of a sequence alike; one or three channels are those of an image.

    Torchvision changes tones of one or three channels only, and here a frame is a channel.
    """
    if image.shape[0] in (1, 3):
        return change(image)
    return change(image[:, None])[:, 0]


def _with(image: Tensor, mask: Sequence[Tensor]) -> Any:
    return (image, *mask) if mask else image


def build_augmentation(cfg: AugmentationConfig) -> v2.Transform | None:
    """Make the transform of one training image: (C, H, W) uint8 to the same.

    Called with an image and its mask, `tv_tensors.Mask` (1, H, W), it returns both. Randomness
    comes from torch's default generator, so `torch.manual_seed` fixes it. None if every probability
    is 0.
    """
    if augmentation_is_off(cfg):
        return None
    tones = {name: getattr(cfg, name) for name in _TONES}
    steps: list[tuple[float, nn.Module]] = [
        (cfg.affine.probability, _affine(cfg.affine)),
        (cfg.flip.horizontal, v2.RandomHorizontalFlip(1.0)),
        (cfg.flip.vertical, v2.RandomVerticalFlip(1.0)),
        (cfg.crop.probability, _RandomCropBack(cfg.crop)),
        (
            cfg.elastic.probability,
            v2.ElasticTransform(alpha=cfg.elastic.magnitude, sigma=cfg.elastic.smoothness),
        ),
        (cfg.equalise.probability, _OnImage(_equaliser(cfg.equalise))),
        *(
            (
                tone.probability,
                _RandomStrength(_TONES[name], 1 - tone.magnitude, 1 + tone.magnitude),
            )
            for name, tone in tones.items()
        ),
        (cfg.blur.probability, _RandomStrength(_blur, 0, cfg.blur.magnitude)),
        (cfg.noise.probability, _RandomStrength(_add_noise, 0, cfg.noise.magnitude)),
        (
            cfg.cutout.probability,
            _OnImage(v2.RandomErasing(1.0, scale=(cfg.cutout.area[0], cfg.cutout.area[1]))),
        ),
    ]
    return v2.Compose([v2.RandomApply([step], p) for p, step in steps if p > 0])


def move_both(augment: Callable[..., Any], image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Change an image (C, H, W), and its mask (H, W) where the geometry changes.

    The mask of a sequence of C frames, (H, C * W), is moved frame by frame, all alike.
    """
    frames = mask.shape[1] // image.shape[2]
    parts = mask.reshape(len(mask), frames, -1).transpose(0, 1)
    changed, moved = augment(image, Mask(parts))
    return changed, moved.as_subclass(Tensor).transpose(0, 1).reshape(mask.shape)


def mixup(
    images: Tensor,
    soft_targets: Tensor,
    alpha: float,
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Blend a batch with a shuffled copy of itself, labels likewise; for training only.

    Parameters
    ----------
    images
        (B, C, H, W); uint8 becomes float32 when blended.
    soft_targets
        (B, classes) float, rows that add up to 1.
    alpha
        Shape of the symmetric Beta distribution of the weight, above 0.
    probability
        Share of batches that are blended, 0 to 1.
    generator
        Source of the decision, the weight and the order, on the CPU.

    Returns
    -------
    tuple of Tensor
        Images and targets; the arguments themselves if this batch is not blended.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018.
    """
    if float(torch.rand((), generator=generator)) >= probability or len(images) < 2:
        return images, soft_targets
    seed = int(torch.randint(2**62, (), generator=generator))
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    blended = images if images.is_floating_point() else images.to(torch.float32)
    return (
        torch.lerp(blended[order], blended, weight),
        torch.lerp(soft_targets[order], soft_targets, weight),
    )


def _affine(cfg: AffineConfig) -> nn.Module:
    affine: nn.Module = v2.RandomAffine(
        cfg.degrees,
        translate=(cfg.translate, cfg.translate),
        scale=(cfg.scale[0], cfg.scale[1]),
        shear=[-cfg.shear, cfg.shear, -cfg.shear, cfg.shear],
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    return affine


def _equaliser(cfg: EqualiseConfig) -> Callable[[Tensor], Tensor]:
    if cfg.tiles == 1:
        return partial(_frame_by_frame, F.equalize)
    return partial(equalise_tiles, tiles=cfg.tiles, clip=cfg.clip)


def _blur(image: Tensor, sigma: float) -> Tensor:
    if sigma < 0.05:
        return image
    radius = min(max(1, round(3 * sigma)), min(image.shape[-2:]) - 1)
    blurred: Tensor = F.gaussian_blur(image, [2 * radius + 1] * 2, [sigma] * 2)
    return blurred


def _add_noise(image: Tensor, sigma: float) -> Tensor:
    noisy = image + torch.randn(image.shape) * (255 * sigma)
    return noisy.round_().clamp_(0, 255).to(torch.uint8)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


_TONES: dict[str, _Change] = {
    "gamma": F.adjust_gamma,
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "sharpness": F.adjust_sharpness,
}
