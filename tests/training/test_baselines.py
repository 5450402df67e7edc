from dataclasses import replace

import pytest
import torch

from primia_flwr.config.experiment.training import (
    EarlyStoppingConfig,
    FederationStoppingConfig,
    TrainingConfig,
)
from primia_flwr.data.dataset import SiteData
from primia_flwr.training.baselines import BaselineRound, train_centralised, train_local
from primia_flwr.training.fit import fit
from primia_flwr.training.plan import LocalPlan
from primia_flwr.training.recipe import Recipe
from tests.training.tiny_training import HALF, PLAIN, OnePixel, one_pixel, random_images, small_net

SITE = SiteData("site-1", random_images(30), random_images(10, seed=5))
ADAMW = replace(
    PLAIN, optimizer="adamw", learning_rate=1e-2, min_learning_rate=1e-4, schedule="one_cycle"
)


def monitored(cfg: TrainingConfig, monitor: str, patience: int = 0) -> TrainingConfig:
    stopping = FederationStoppingConfig(monitor=monitor, patience=patience)
    return replace(cfg, early_stopping=EarlyStoppingConfig(federation=stopping))


def test_as_many_image_passes_as_the_federation_by_epochs() -> None:
    result = train_centralised(
        OnePixel(),
        SITE,
        Recipe(replace(PLAIN, local_epochs=2), HALF, seed=1),
        num_sites=3,
        num_rounds=4,
    )
    assert sum(r.images_seen for r in result.rounds) == 4 * 2 * 30


def test_as_many_batches_as_all_sites_together() -> None:
    # 30 images make 4 batches of 7 or 8; 3 sites of 2 batches in each of 2 rounds: 12 batches
    recipe = Recipe(replace(PLAIN, sync_every_n_batches=2), HALF, seed=1)
    central = train_centralised(OnePixel(), SITE, recipe, num_sites=3, num_rounds=2)
    local = train_local(OnePixel(), SITE, recipe, num_rounds=2)
    assert sum(r.images_seen for r in central.rounds) == 3 * 30
    assert sum(r.images_seen for r in local.rounds) == 30


def test_rounds_are_one_continuous_training() -> None:
    data = SiteData("site-1", SITE.train, SITE.train.select([]))
    recipe = Recipe(ADAMW, HALF, seed=2)
    result = train_local(small_net(), data, recipe, num_rounds=3)
    whole = fit(small_net(), data.train, None, recipe, LocalPlan(0, 12, max_epochs=3))
    assert result.best_round == 3  # nothing to choose by: the last
    assert all(torch.equal(result.state[name], whole.state[name]) for name in whole.state)


def test_keeps_the_best_round_and_leaves_it_in_the_model() -> None:
    # Training raises the bias, the validation images have the other label: round 1 is the best.
    data = SiteData("odd", one_pixel([0, 0], [1, 1]), one_pixel([0, 0], [0, 0]))
    seen: list[BaselineRound] = []
    model = OnePixel()
    result = train_local(
        model,
        data,
        Recipe(monitored(PLAIN, "loss"), HALF, seed=1),
        num_rounds=3,
        on_round=seen.append,
    )
    assert result.best_round == 1
    assert float(model.b.detach()) == float(result.state["b"]) == pytest.approx(0.25)
    assert [(r.number, r.num_rounds) for r in seen] == [(1, 3), (2, 3), (3, 3)]
    assert tuple(seen) == result.rounds
    assert result.val == result.rounds[0].val


def test_stops_as_the_federation_would() -> None:
    data = SiteData("odd", one_pixel([0, 0], [1, 1]), one_pixel([0, 0], [0, 0]))
    recipe = Recipe(monitored(PLAIN, "loss", patience=2), HALF, seed=1)
    result = train_local(OnePixel(), data, recipe, num_rounds=9)
    assert len(result.rounds) == 3
