"""A private round: randomness of views, and how far one unit moves what the others contribute."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_flwr.config.experiment.data import (
    AffineConfig,
    AugmentationConfig,
    FlipConfig,
    MixupConfig,
)
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.clipping.table import build_engine
from primia_flwr.privacy.mechanisms import randomness
from primia_flwr.training import private
from primia_flwr.training.device import derive_seed
from primia_flwr.training.loader import augmented
from primia_flwr.training.private import _Batches, fit_private, shared_step
from primia_flwr.training.private_plan import PrivatePlan
from primia_flwr.training.recipe import Recipe
from tests.training.tiny_training import HALF, PLAIN, random_images

UNITS = 12
PNEUMONIA = AugmentationConfig(
    affine=AffineConfig(probability=1.0, degrees=15.0, translate=0.08, scale=[0.8, 1.2], shear=6.0),
    flip=FlipConfig(horizontal=0.5),
)
RECIPE = Recipe(PLAIN, HALF, seed=1234, augmentation=PNEUMONIA)
ALL = PrivatePlan(1.0, 1.0, 1, 0, 1)  # every unit is drawn in the one step


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


@pytest.mark.parametrize("removed", [0, UNITS // 2, UNITS - 1])
@pytest.mark.parametrize(("views", "micro_batch"), [(1, 64), (1, 5), (3, 4)])
def test_one_unit_moves_the_sum_by_the_clipping_norm(
    removed: int, views: int, micro_batch: int
) -> None:
    assert distance(removed, privacy(views, micro_batch)) <= 1 + 2**-10


def test_seeds_by_place_would_move_it_farther(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement sees the mistake that was made once: the first unit moves all behind it."""

    def by_place(step: int, files: Sequence[str], views: int) -> list[int]:
        return [derive_seed(1234, "view", step, at) for at in range(len(files))]

    monkeypatch.setattr(private, "view_seeds", by_place)
    assert distance(0, privacy()) > 1.5
    last_by_name = 9  # of p0, p1, p10, p11, p2 to p9: nobody is behind it
    assert distance(last_by_name, privacy()) <= 1 + 2**-10


def used_seeds(monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """Return the seeds under which the views of a step were augmented."""
    used: list[int] = []

    def recorded(
        images: Tensor, labels: Tensor, seeds: list[int], augment: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        assert len(seeds) == len(images)
        used.extend(seeds)
        return augmented(images, labels, seeds, augment)

    monkeypatch.setattr(private, "augmented", recorded)
    data = random_images(UNITS)
    list(_Batches(data, RECIPE, privacy(views=3), ALL, torch.device("cpu")).of(step))
    return used


def test_every_view_of_every_step_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    used = used_seeds(monkeypatch, 0) + used_seeds(monkeypatch, 1)
    assert len(used) == len(set(used)) == 2 * 3 * UNITS
    assert max(used) >= 2**55  # 72 numbers of 63 bits: all below with a chance of 2^-576


def test_seeds_are_those_of_a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same recipe and step under another process's key: nobody who knows both can tell."""
    before = used_seeds(monkeypatch, 0)
    randomness._process_key.cache_clear()
    assert not set(before) & set(used_seeds(monkeypatch, 0))


def test_a_shared_step_is_the_clipped_sum_by_array() -> None:
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


def adaptive_round(clip_norm: float | None = None, *, steps: int = 1) -> float:
    """Return the clip after steps that draw all twelve units and count with next to no noise."""
    cfg = replace(privacy(), noise_multiplier=1e-6, clip_quantile=0.5, clip_count_noise=1e-5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    plan = PrivatePlan(1e-6, 1.0, steps, 0, 8)
    return fit_private(
        model, random_images(UNITS), RECIPE, cfg, plan, clip_norm=clip_norm
    ).clip_norm


def test_an_adaptive_clip_goes_on_from_round_to_round() -> None:
    # gradients are far longer than 1e-4: nobody below, exp(0.2 / 2) a step
    assert adaptive_round(1e-4) == pytest.approx(1e-4 * math.exp(0.1), rel=1e-4)
    assert adaptive_round(1e-4, steps=3) == pytest.approx(1e-4 * math.exp(0.3), rel=1e-4)
    # and far shorter than 1e4: all below
    assert adaptive_round(1e4) == pytest.approx(1e4 * math.exp(-0.1), rel=1e-4)
    # without one of the round before it begins at privacy.clip_norm, which is 1
    assert math.exp(-0.1001) < adaptive_round() < math.exp(0.1001)


def test_a_fixed_clip_stays_what_it_is() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    assert fit_private(model, random_images(UNITS), RECIPE, privacy(), ALL).clip_norm == 1.0


def test_a_plan_whose_noise_the_counts_would_use_up_takes_no_step() -> None:
    cfg = replace(privacy(), noise_multiplier=1.0, clip_quantile=0.5, clip_count_noise=1.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    before = model[1].weight.detach().clone()
    with pytest.raises(ConfigError, match=r"privacy\.clip_count_noise=1 with steps of noise"):
        fit_private(model, random_images(UNITS), RECIPE, cfg, PrivatePlan(2.0, 1.0, 1, 0, 1))
    assert torch.equal(model[1].weight, before)


def test_images_are_not_blended() -> None:
    recipe = replace(RECIPE, mixup=MixupConfig(probability=0.5))
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    with pytest.raises(ConfigError, match=r"data\.mixup\.probability=0\.5 .* different patients"):
        fit_private(model, random_images(UNITS), recipe, privacy(), ALL)
