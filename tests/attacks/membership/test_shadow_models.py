"""Shadow models: as many passes as the run, kept one by one, trained again only if lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from primia_flwr.attacks.membership.attack import MembershipAttack, prepare
from primia_flwr.attacks.membership.attacked_run import AttackedRun, TargetSize, open_run
from primia_flwr.attacks.membership.shadow_models import fingerprint
from primia_flwr.attacks.membership.shadow_recipe import ShadowRecipe
from primia_flwr.errors import ConfigError
from tests.attacks.attacked_run_maker import PRIVATE, make_run

SHORT = ("training.local_epochs=1", "federation.rounds=1")


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> AttackedRun:
    return open_run(make_run(tmp_path / "run", cache, *SHORT, train=False))


def attack(run: AttackedRun, folder: Path, *, shadows: int = 4, seed: int = 1) -> MembershipAttack:
    return prepare(run, own_site="", shadows=shadows, seed=seed, device="cpu", folder=folder)


def test_as_many_passes_as_the_run_up_to_its_best_round(run: AttackedRun) -> None:
    training = replace(run.experiment.training, batch_size=10, sync_every_n_batches=6)
    federation = replace(run.experiment.federation, rounds=5)
    experiment = replace(run.experiment, training=training, federation=federation)
    other = replace(run, experiment=experiment, card=replace(run.card, round=2))
    recipe = ShadowRecipe(other, TargetSize(120, 80, 3), seed=1, device="cpu")
    # a site: 40 images, 4 batches an epoch, 6 a round: 1.5 passes a round
    plan = recipe.plan(100)  # 10 batches an epoch
    assert (plan.start_step, plan.total_steps, plan.max_batches) == (0, 75, 30)
    assert recipe.image_passes(100) == 300


def test_noise_is_that_of_the_mean_over_the_sites(tmp_path: Path, cache: Path) -> None:
    run = open_run(make_run(tmp_path / "run", cache, *PRIVATE, train=False))
    asked = attack(run, tmp_path / "out").asked
    privacy = replace(run.experiment.privacy, epsilon=0.0, noise_multiplier=2.0)
    fixed = replace(run, experiment=replace(run.experiment, privacy=privacy))
    units = len(set(asked.images.patients))
    recipe = ShadowRecipe(fixed, TargetSize(300, 3 * units, 3), seed=1, device="cpu")
    plan = recipe.private_plan(asked.images)
    # sites of as many patients as here: the same batch, noise over sqrt(3)
    assert plan.sampling_rate == pytest.approx(8 / units)
    assert plan.noise_multiplier == pytest.approx(2 / np.sqrt(3))
    assert plan.steps == plan.total_steps == 2 * 3
    assert recipe.image_passes(100) == 8 * 3 * 100 / 300 * 6
    assert recipe.private_config(asked.images) == privacy
    moving = replace(privacy, clip_quantile=0.5, clip_count_noise=3.0)
    moved = replace(run, experiment=replace(run.experiment, privacy=moving))
    counted = ShadowRecipe(moved, TargetSize(300, 3 * units, 3), seed=1, device="cpu")
    # the share below the clip is as noisy as the mean of three sites' shares
    assert counted.private_config(asked.images).count_noise == pytest.approx(3 / np.sqrt(3))


def test_models_are_kept_and_only_the_lost_are_trained_again(
    run: AttackedRun, tmp_path: Path
) -> None:
    planned = attack(run, tmp_path / "out")
    assert planned.models.finished() == 0
    told: list[tuple[int, float]] = []
    first = planned.models.confidences(
        planned.asked.images, "cpu", lambda done, part: told.append((done, part))
    )
    assert first.shape == (4, len(planned.asked.images))
    assert told[-1] == (4, 0.0)
    assert planned.models.finished() == 4
    kept = [planned.models.folder_of(i) / "model.safetensors" for i in range(4)]
    times = [path.stat().st_mtime_ns for path in kept]
    kept[1].write_bytes(b"damaged")
    again = attack(run, tmp_path / "out", shadows=6)
    second = again.models.confidences(again.asked.images, "cpu")
    assert second.shape[0] == 6
    assert np.array_equal(second[:4], first), "the same seed trains the same model"
    changed = [path.stat().st_mtime_ns != time for path, time in zip(kept, times, strict=True)]
    assert changed == [False, True, False, False]


def test_a_shadow_model_is_trained_on_its_own_part(run: AttackedRun, tmp_path: Path) -> None:
    planned = attack(run, tmp_path / "out")
    part = planned.plan.images_of(2)
    assert set(part.files) == set(np.array(planned.asked.images.files)[planned.inside[2]])
    states = [model.state_dict() for model in planned.models.models()]
    name = "classifier.weight"
    assert not torch.equal(states[0][name], states[1][name])


def test_the_folder_is_another_for_another_attack(run: AttackedRun, tmp_path: Path) -> None:
    one = attack(run, tmp_path)
    names = {fingerprint(run, one.plan), fingerprint(run, attack(run, tmp_path, seed=2).plan)}
    names.add(fingerprint(replace(run, card=replace(run.card, round=9)), one.plan))
    assert len(names) == 3
    assert fingerprint(run, attack(run, tmp_path, shadows=8).plan) in names


def test_too_few_shadows_are_refused_before_any_is_trained(
    run: AttackedRun, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="shadows=3; expected at least 4"):
        attack(run, tmp_path / "out", shadows=3)
    assert not (tmp_path / "out").exists()
