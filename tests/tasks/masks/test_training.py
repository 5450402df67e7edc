"""A U-Net on squares of its own: plain steps learn them, private ones are bounded by the clip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from primia_flwr.config.experiment.data import AffineConfig, AugmentationConfig, MixupConfig
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.models.architectures.unet import UNet
from primia_flwr.privacy.clipping.table import build_engine
from primia_flwr.training.evaluate import evaluate, predict
from primia_flwr.training.fit import fit
from primia_flwr.training.plan import LocalPlan
from primia_flwr.training.private import _Batches, fit_private
from primia_flwr.training.private_plan import PrivatePlan
from primia_flwr.training.recipe import Recipe
from tests.training.tiny_training import HALF, PLAIN

TASK = TASKS["segmentation"]
MOVED = AugmentationConfig(affine=AffineConfig(probability=1.0, degrees=15.0))
ADAM = replace(PLAIN, optimizer="adamw", learning_rate=0.02, min_learning_rate=0.02, batch_size=4)
CPU = {"normalisation": HALF, "batch_size": 5, "device": torch.device("cpu")}
UNITS = 12


def squares(count: int = UNITS, side: int = 16) -> LabelledImages:
    """Noise with a square that is brighter, somewhere."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 90, (count, 1, side, side), generator=generator)
    masks = torch.zeros(count, side, side, dtype=torch.uint8)
    for k in range(count):
        top, left = (int(x) for x in torch.randint(0, side - 6, (2,), generator=generator))
        masks[k, top : top + 6, left : left + 6] = 1
    images[:, 0] += 90 * masks
    names = tuple(f"{k}" for k in range(count))
    return LabelledImages(
        images.to(torch.uint8), masks, names, names, ("background", "square"), task=TASK
    )


def unet(norm: str = "group") -> UNet:
    torch.manual_seed(0)
    return UNet(ModelConfig(name="unet", norm=norm, norm_groups=2), 2, 1, widths=(4, 8))


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_few_epochs_find_the_squares(mixup: float) -> None:
    data, model = squares(), unet()
    before = evaluate(model, data, **CPU).figures()["dice"]
    recipe = Recipe(
        ADAM, HALF, seed=1, augmentation=MOVED, mixup=MixupConfig(probability=mixup, alpha=0.3)
    )
    done = fit(model, data, data, recipe, LocalPlan(0, 36, max_epochs=12))
    assert done.val is not None
    assert done.val.figures()["dice"] > max(0.8, before)
    called = predict(model, data, **CPU)
    assert called.shape == (UNITS, 16, 16)
    assert called.dtype == "uint8"


def test_one_unit_moves_the_clipped_sum_by_the_clip_at_most() -> None:
    cfg = PrivacyConfig(mode="dp_sgd", noise_multiplier=1.0, expected_batch=UNITS, views=2)
    recipe = Recipe(PLAIN, HALF, seed=1, augmentation=MOVED)

    def clipped_sum(data: LabelledImages) -> Tensor:
        plan = PrivatePlan(1.0, 1.0, 1, 0, 1)
        engine = build_engine("ghost", unet(), TASK.unit_loss(PLAIN), clip_norm=1.0, views=2)
        batches = _Batches(data, recipe, cfg, plan, torch.device("cpu"))
        parts = [engine.clipped_sum(images, masks) for images, masks in batches.of(0)]
        return torch.stack([torch.cat([t.double().flatten() for t in p]) for p in parts]).sum(0)

    whole, rest = squares(), squares().select(range(1, UNITS))
    assert 0.5 < float((clipped_sum(whole) - clipped_sum(rest)).norm()) <= 1 + 1e-3


def test_a_private_round_changes_the_model_and_tells_no_count() -> None:
    cfg = PrivacyConfig(mode="dp_sgd", noise_multiplier=1.0, expected_batch=UNITS)
    model = unet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = PrivatePlan(1.0, 0.5, 2, 0, 2)
    state = fit_private(model, squares(), Recipe(PLAIN, HALF, seed=1), cfg, plan).state
    assert state.keys() == before.keys()
    assert all(not torch.equal(state[name], before[name]) for name in state)
