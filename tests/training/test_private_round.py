"""A private round: randomness of views, and how far one unit moves what the others contribute."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.config.data import AffineConfig, AugmentationConfig, FlipConfig, MixupConfig
from primia_flwr.config.privacy import PrivacyConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.clipping.table import build_engine
from primia_flwr.training import private
from primia_flwr.training.device import derive_seed
from primia_flwr.training.loader import augmented
from primia_flwr.training.private import PrivatePlan, _Batches, fit_private, shared_step
from primia_flwr.training.recipe import Recipe
from tests.training.tiny_training import HALF, PLAIN, random_images

UNITS = 12
PNEUMONIA = AugmentationConfig(
    affine=AffineConfig(probability=1.0, degrees=15.0, translate=0.08, scale=[0.8, 1.2], shear=6.0),
    flip=FlipConfig(horizontal=0.5),
)
RECIPE = Recipe(PLAIN, HALF, seed=1234, augmentation=PNEUMONIA)
ALL = PrivatePlan(1.0, 1.0, 1, 0, 1)  # every unit is drawn in the one step

Augmented = Callable[[Tensor, list[int], Callable[[Tensor], Tensor]], Tensor]


def privacy(views: int = 1, micro_batch: int = 64) -> PrivacyConfig:
    return PrivacyConfig(
        mode="dp_sgd",
        noise_multiplier=1.0,
        expected_batch=UNITS,
        views=views,
        micro_batch=micro_batch,
    )


def without(data: LabelledImages, unit: int) -> LabelledImages:
    rows = [row for row in range(len(data)) if row != unit]
    return replace(
        data,
        images=data.images[rows],
        labels=data.labels[rows],
        files=tuple(data.files[row] for row in rows),
        patients=tuple(data.patients[row] for row in rows),
    )


def clipped_sum(data: LabelledImages, cfg: PrivacyConfig) -> Tensor:
    """Return the sum that a step with all units would add noise to, as one vector."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(784, 2))
    batches = _Batches(data, RECIPE, cfg, ALL, torch.device("cpu"))
    loss = partial(functional.cross_entropy, reduction="none")
    engine = build_engine("ghost", model, loss, clip_norm=1.0, views=cfg.views)
    parts = [engine.clipped_sum(images, labels) for images, labels in batches.of(0)]
    return sum(torch.cat([tensor.double().flatten() for tensor in part]) for part in parts)  # type: ignore[return-value]


def distance(removed: int, cfg: PrivacyConfig) -> float:
    """Return how far one unit moves the sum; the clipping norm is 1."""
    data = random_images(UNITS)
    return float((clipped_sum(data, cfg) - clipped_sum(without(data, removed), cfg)).norm())


def by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Couple the two data sets: a unit that is in both is augmented alike in both."""

    def coupled(images: Tensor, seeds: list[int], augment: Callable[[Tensor], Tensor]) -> Tensor:
        own = [zlib.crc32(image.numpy().tobytes()) for image in images]
        return augmented(images, own, augment)

    monkeypatch.setattr(private, "augmented", coupled)


@pytest.mark.parametrize("removed", [0, UNITS // 2, UNITS - 1])
@pytest.mark.parametrize(("views", "micro_batch"), [(1, 64), (1, 5), (3, 4)])
def test_one_unit_moves_the_sum_by_the_clipping_norm(
    removed: int, views: int, micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if views == 1:  # a unit's views are alike here, so that only their common image counts
        by_image(monkeypatch)
    else:
        monkeypatch.setattr(private, "augmented", lambda images, seeds, augment: images)
    assert distance(removed, privacy(views, micro_batch)) <= 1 + 2**-10


def test_seeds_by_place_would_move_it_farther(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement sees the mistake that was made once: the first unit moves all behind it."""
    monkeypatch.setattr(
        private,
        "fresh_seeds",
        lambda count: [derive_seed(1234, "view", 0, at) for at in range(count)],
    )
    assert distance(0, privacy()) > 1.5
    last_by_name = 9  # of p0, p1, p10, p11, p2 to p9: nobody is behind it
    assert distance(last_by_name, privacy()) <= 1 + 2**-10


def test_every_view_has_a_seed_of_its_own_that_nobody_can_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[int] = []

    def recorded(images: Tensor, seeds: list[int], augment: Callable[[Tensor], Tensor]) -> Tensor:
        assert len(seeds) == len(images)
        used.extend(seeds)
        return augmented(images, seeds, augment)

    monkeypatch.setattr(private, "augmented", recorded)
    data = random_images(UNITS)
    for _ in range(2):  # the same recipe and the same step, twice
        list(_Batches(data, RECIPE, privacy(views=3), ALL, torch.device("cpu")).of(0))
    assert len(used) == len(set(used)) == 2 * 3 * UNITS
    assert max(used) >= 2**55  # 72 numbers of 63 bits: all below with a chance of 2^-576


def test_a_shared_step_is_the_clipped_sum_by_array(monkeypatch: pytest.MonkeyPatch) -> None:
    by_image(monkeypatch)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(784, 2))
    model[0].weight.requires_grad_(False)
    data, weight = random_images(UNITS), 0.25
    update = shared_step(model, data, RECIPE, privacy(), ALL, weight=weight)
    assert set(update) == set(model.state_dict())
    assert all(update[name].shape == value.shape for name, value in model.state_dict().items())
    assert all(value.dtype == torch.float64 for value in update.values())
    assert not update["0.weight"].any()  # frozen
    # twelve units, each clipped to 1: together at most 12 times the weight
    norm = torch.cat([value.flatten() for value in update.values()]).norm()
    assert 0.1 * weight < norm <= UNITS * weight * (1 + 2**-10)
    again = shared_step(model, data, RECIPE, privacy(), ALL, weight=2 * weight)
    torch.testing.assert_close(again["3.bias"], 2 * update["3.bias"])


def test_images_are_not_blended() -> None:
    recipe = replace(RECIPE, mixup=MixupConfig(probability=0.5))
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    with pytest.raises(ConfigError, match=r"data\.mixup\.probability=0\.5 .* different patients"):
        fit_private(model, random_images(UNITS), recipe, privacy(), ALL)
