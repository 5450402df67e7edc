from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from primia_flwr.config.experiment.data import (
    AffineConfig,
    AugmentationConfig,
    CutoutConfig,
    EqualiseConfig,
    FlipConfig,
    SigmaConfig,
    ToneConfig,
)
from primia_flwr.data.files.clahe import equalise_tiles
from primia_flwr.data.transforms import build_augmentation, mixup

RAMP = (torch.arange(256).reshape(1, 16, 16)).to(torch.uint8)


def apply(image: Tensor, **changes: object) -> Tensor:
    augment = build_augmentation(AugmentationConfig(**changes))
    assert augment is not None
    result: Tensor = augment(image)
    return result


def test_off_by_default() -> None:
    assert build_augmentation(AugmentationConfig()) is None


@pytest.mark.parametrize("name", [part.name for part in fields(AugmentationConfig)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_transform_keeps_shape_and_type_and_changes_something(
    name: str, channels: int
) -> None:
    part = getattr(AugmentationConfig(), name)
    switched = FlipConfig(1.0, 1.0) if name == "flip" else replace(part, probability=1.0)
    torch.manual_seed(0)
    image = torch.randint(30, 200, (channels, 32, 32)).to(torch.uint8)
    before = image.clone()
    changed = [apply(image, **{name: switched}) for _ in range(4)]
    assert all(c.shape == image.shape and c.dtype == torch.uint8 for c in changed)
    assert any(not torch.equal(c, image) for c in changed)
    assert torch.equal(image, before)


def test_flips_by_hand() -> None:
    assert torch.equal(apply(RAMP, flip=FlipConfig(horizontal=1.0)), RAMP.flip(-1))
    assert torch.equal(apply(RAMP, flip=FlipConfig(vertical=1.0)), RAMP.flip(-2))


def test_probability_is_the_share_of_changed_images() -> None:
    torch.manual_seed(0)
    augment = build_augmentation(AugmentationConfig(flip=FlipConfig(horizontal=0.3)))
    assert augment is not None
    changed = sum(not torch.equal(augment(RAMP), RAMP) for _ in range(1000))
    assert 240 < changed < 360  # 300 ± 4 standard deviations


def test_the_same_seed_gives_the_same_image() -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return apply(RAMP, affine=AffineConfig(1.0), noise=SigmaConfig(1.0, 0.1))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_brightness_factor_stays_in_its_range() -> None:
    torch.manual_seed(0)
    flat = torch.full((1, 4, 4), 100, dtype=torch.uint8)
    levels = [int(apply(flat, brightness=ToneConfig(1.0, 0.2))[0, 0, 0]) for _ in range(200)]
    assert 80 <= min(levels) < 85
    assert 115 < max(levels) <= 120


def test_noise_has_at_most_its_standard_deviation() -> None:
    torch.manual_seed(0)
    flat = torch.full((1, 64, 64), 128, dtype=torch.uint8)
    spreads = [float(apply(flat, noise=SigmaConfig(1.0, 0.1)).float().std()) for _ in range(60)]
    assert max(spreads) < 0.1 * 255 * 1.05
    assert np.mean(spreads) == pytest.approx(0.05 * 255, rel=0.25)


def test_cutout_blanks_about_the_area() -> None:
    torch.manual_seed(0)
    white = torch.full((1, 64, 64), 255, dtype=torch.uint8)
    cut = apply(white, cutout=CutoutConfig(1.0, [0.1, 0.1]))
    assert float((cut == 0).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_equalised_grey_levels_are_uniform() -> None:
    dark = (RAMP // 4).to(torch.uint8).repeat(1, 4, 4)
    assert int(apply(dark, equalise=EqualiseConfig(1.0)).max()) == 255
    local = apply(dark, equalise=EqualiseConfig(1.0, tiles=4, clip=256))
    assert int(local.max()) > 200


def test_clip_of_one_leaves_the_contrast_and_a_single_tile_is_the_cumulative_histogram() -> None:
    # clip = 1 allows a slope of 1 at most: the identity up to the spread remainder
    uniform = RAMP
    assert (equalise_tiles(uniform, tiles=1, clip=1.0).int() - uniform.int()).abs().max() <= 1
    two = torch.tensor([[[10, 10], [10, 20]]], dtype=torch.uint8)
    assert equalise_tiles(two, tiles=1, clip=256).tolist() == [[[191, 191], [191, 255]]]


IMAGES = torch.arange(8, dtype=torch.float32).reshape(4, 1, 1, 2)
TARGETS = torch.eye(4)


def test_mixup_blends_images_and_targets_with_the_same_weight() -> None:
    images, targets = mixup(IMAGES, TARGETS, 1.0, 1.0, torch.Generator().manual_seed(3))
    assert torch.allclose(targets.sum(1), torch.ones(4))
    # the images are linear in the class: pixels follow from the blended targets
    assert torch.allclose(images.flatten(1), targets @ IMAGES.flatten(1), atol=1e-6)
    assert not torch.equal(targets, TARGETS)


def test_mixup_weights_follow_the_beta_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = []
    for _ in range(2000):
        _, targets = mixup(IMAGES[:2], TARGETS[:2, :2], 0.3, 1.0, generator)
        weights.append(float(targets[0, 0]))
    blended = np.array([w for w in weights if w != 1.0])  # half the orders are the identity
    assert blended.mean() == pytest.approx(0.5, abs=0.06)
    assert blended.var() == pytest.approx(0.25 / (2 * 0.3 + 1), rel=0.12)


def test_mixup_switches() -> None:
    generator = torch.Generator().manual_seed(0)
    assert mixup(IMAGES, TARGETS, 0.3, 0.0, generator) == (IMAGES, TARGETS)
    assert mixup(IMAGES[:1], TARGETS[:1], 0.3, 1.0, generator)[1].tolist() == [[1, 0, 0, 0]]
    images, _ = mixup(IMAGES.to(torch.uint8), TARGETS, 0.3, 1.0, generator)
    assert images.dtype == torch.float32
    changed = sum(mixup(IMAGES, TARGETS, 1.0, 0.5, generator)[0] is not IMAGES for _ in range(400))
    assert 150 < changed < 250
