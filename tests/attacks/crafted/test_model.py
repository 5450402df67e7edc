"""A trap lets one image of many through, the opened sum is its gradient; odd runs are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from primia_flwr.attacks.crafted.model import (
    LIFT,
    Trap,
    ceilings,
    check_run,
    getting_through,
    head_of,
    last_norm,
    lift,
    set_trap,
)
from primia_flwr.attacks.crafted.runner import CRAFTED, HONEST, CraftedAttackRunner
from primia_flwr.attacks.crafted.unmasked_sum import below_the_head
from primia_flwr.attacks.inversion.config import InversionConfig
from primia_flwr.attacks.inversion.runner import AttackSettings
from primia_flwr.config.experiment.data import DataConfig, SyntheticConfig
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.models.arrival import check_arrived, norm_layers
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model
from tests.attacks.recorded import NORMALISATION, experiment_of, record, secure

KINDS = ("norm", "within_bounds")


def _experiment(folder: Path) -> Experiment:
    """3 sites, 3 steps of 2 images a round, half of the patients are held out for the attacker."""
    experiment = secure(experiment_of(folder, batch_size=2))
    data = DataConfig(
        image_size=16,
        synthetic=SyntheticConfig(patients=120),
        test_fraction=0.5,
        cache_dir=str(folder / "cache"),
        classes=["bacterial", "normal", "viral"],
    )
    return replace(
        experiment,
        data=data,
        training=replace(experiment.training, sync_every_n_batches=3),
        federation=replace(experiment.federation, rounds=8),
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    folder = tmp_path_factory.mktemp("crafted")
    experiment = _experiment(folder)
    return record(experiment, folder / "run"), experiment


def _campaign(
    recorded: tuple[Path, Experiment], folder: Path, kind: str = "norm"
) -> CraftedAttackRunner:
    run, experiment = recorded
    search = InversionConfig(iterations=4)
    settings = AttackSettings("crafted_model", search, crafted=kind)
    device = torch.device("cpu")
    model = load_model(run)[0]
    return CraftedAttackRunner(run, experiment, model, NORMALISATION, settings, folder, device)


def _alone(campaign: CraftedAttackRunner) -> list[int]:
    """Return the rounds in which exactly one image gets through."""
    return [n for n in range(1, 9) if int(campaign.through(CRAFTED, n).sum()) == 1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_opened_sum_of_three_sites_is_one_images_gradient(
    kind: str, recorded: tuple[Path, Experiment], tmp_path: Path
) -> None:
    """Three steps of two images at each of three sites, added up in secure sum's fixed point."""
    campaign = _campaign(recorded, tmp_path, kind)
    rounds = _alone(campaign)
    assert rounds
    for number in rounds:
        row = campaign.measure(CRAFTED, number)
        assert (row.with_gradient, row.images) == (1, len(campaign.through(CRAFTED, number)))
        assert row.images >= 12
        assert row.best_cosine > 0.99
        assert bool(row.refused) == (kind == "norm")


def test_the_sum_over_an_honest_model_is_nobodys_gradient(
    recorded: tuple[Path, Experiment], tmp_path: Path
) -> None:
    row = _campaign(recorded, tmp_path).measure(HONEST, 1)
    assert row.with_gradient == row.images >= 12
    assert row.best_cosine < 0.9
    assert row.refused == ""


def test_where_nobody_gets_through_the_sum_is_zero_below_the_classifier(
    recorded: tuple[Path, Experiment], tmp_path: Path
) -> None:
    campaign = _campaign(recorded, tmp_path)
    empty = next(n for n in range(1, 9) if not campaign.through(CRAFTED, n).any())
    change = campaign.seen(CRAFTED, empty).change
    names = below_the_head(campaign.sent(CRAFTED, empty))
    assert names
    assert not any(change[name].any() for name in names)
    assert change["classifier.bias"].any()


def test_the_attack_is_the_same_twice(recorded: tuple[Path, Experiment], tmp_path: Path) -> None:
    first, second = (_campaign(recorded, tmp_path / name) for name in "ab")
    (job,) = (job for job in first.jobs(1, control=False) if job.name == CRAFTED)
    a, b = first.run(job), second.run(job)
    assert torch.equal(a.reconstruction.images, b.reconstruction.images)
    assert a.labels.shape == (1,)
    number = _alone(first)[0]
    job = replace(job, server_round=number)
    truth = first.truth(first.seen(CRAFTED, number))
    assert first.run(job).labels.tolist() == truth.labels.tolist()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "simpleconv"])
@pytest.mark.parametrize(("kind", "norm"), [*((kind, "group") for kind in KINDS), ("norm", "none")])
def test_the_trap_fits_every_architecture(name: str, kind: str, norm: str) -> None:
    cfg = ModelConfig(name=name, norm=norm)
    model = build_model(cfg, outputs=3, channels=1, seed=1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    public = torch.randn(24, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    set_trap(model, Trap(kind, 3), public, share=1 / 12)
    assert int(getting_through(model, public).sum()) == 2
    if kind == "within_bounds":
        check_arrived(model)
        return
    with pytest.raises(ProtocolError, match=r"bias has -10000"):
        check_arrived(model)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    last, head = list(norm_layers(model))[-1][0], head_of(model)[0]
    assert changed == {f"{last}.bias", f"{head}.weight"}  # the scale was 1 before


def test_a_candidate_is_lifted_through_and_who_gets_through_by_more_is_left_alone() -> None:
    cfg = ModelConfig(name="simpleconv", norm="group")
    model = build_model(cfg, outputs=3, channels=1, seed=1)
    images = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    set_trap(model, Trap("norm", 5), images, share=1 / 8)
    with torch.no_grad():
        last_norm(model).bias[5] += LIFT
    highest, before = ceilings(model, 5, images), model(images)
    assert 0 < int((highest > LIFT).sum()) < 8
    lift(model, 5)
    assert ceilings(model, 5, images).tolist() == pytest.approx(highest.clamp(min=LIFT).tolist())
    for row in range(8):
        assert torch.equal(model(images)[row], before[row]) == bool(highest[row] >= LIFT)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"model": ModelConfig(norm="batch")},
            "norm",
            r"model\.norm=batch; expected group or none",
        ),
        ({"model": ModelConfig(norm="none")}, "within_bounds", r"model\.norm=none; expected model"),
        (
            {"model": ModelConfig(norm="group", trainable="head", weights="a.pth")},
            "norm",
            r"model\.trainable=head; expected all",
        ),
        (
            {
                "model": ModelConfig(norm="group"),
                "privacy": PrivacyConfig(mode="dp_sgd", epsilon=3.0),
            },
            "norm",
            r"privacy\.mode=dp_sgd; expected none",
        ),
        (
            {"model": ModelConfig(norm="group", norm_groups=2)},
            "within_bounds",
            r"norm_groups=2, .* expected 4 groups or more",
        ),
        (
            {"model": ModelConfig(norm="group", weight_standardisation=True)},
            "within_bounds",
            r"weight_standardisation=true; .* set crafted=norm",
        ),
    ],
)
def test_a_run_that_the_trap_is_not_made_for(
    changes: dict[str, Any], kind: str, message: str, tmp_path: Path
) -> None:
    experiment = secure(experiment_of(tmp_path))
    for key, value in changes.items():  # past the checks of a private run, of which there are many
        setattr(experiment, key, value)
    with pytest.raises(ConfigError, match=message):
        check_run(experiment, kind)


def test_a_plain_run_has_no_opened_sum(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path)
    run = record(experiment, tmp_path / "run")
    expected = r"target=crafted_model of a plain run; .*aggregation=secure"
    with pytest.raises(ConfigError, match=expected):
        _campaign((run, experiment), tmp_path)
