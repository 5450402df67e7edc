"""Recorded bytes are the gradient of the images that the truth names; odd targets are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from primia_flwr.attacks.inversion.gradients import GradientOf, cosine_distance, revealed_statistics
from primia_flwr.attacks.inversion.ground_truth import SitesData
from primia_flwr.attacks.inversion.targets import (
    check_target,
    gradient_of_change,
    random_gradient,
    read_seen,
    updates_of,
)
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.errors import ConfigError, DataError
from primia_flwr.pipeline.first_model import first_model
from primia_flwr.runs.received import MODEL, read_received, rounds_of
from tests.attacks.recorded import experiment_of, normalised, record, secure


@pytest.mark.parametrize(("norm", "batch_size"), [("group", 1), ("group", 3), ("batch", 4)])
def test_the_received_update_of_one_step_is_the_gradient_of_its_images(
    norm: str, batch_size: int, tmp_path: Path
) -> None:
    experiment = experiment_of(tmp_path, norm=norm, batch_size=batch_size)
    run = record(experiment, tmp_path / "run")
    data, model = SitesData(experiment), first_model(experiment, 3)
    names = [name for name, _ in model.named_parameters()]
    for site, number in updates_of(run, "batch"):
        seen = read_seen(run, site, number, experiment, data.size_of, {})
        truth = data.truth_of(seen)
        gradient = gradient_of_change(seen.change, names, experiment)
        own = GradientOf(model, names)(normalised(truth.images), truth.labels)
        assert float(cosine_distance([g.detach() for g in own], gradient)) < 1e-4
        for mine, received in zip(own, gradient, strict=True):  # not only the direction
            torch.testing.assert_close(mine.detach(), received, atol=2e-5, rtol=1e-2)


def test_the_received_running_statistics_are_those_of_the_batch(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path, norm="batch", batch_size=4)
    run = record(experiment, tmp_path / "run")
    data, model = SitesData(experiment), first_model(experiment, 3)
    seen = read_seen(run, "a", 2, experiment, data.size_of, {})
    revealed = revealed_statistics(model, seen.change, steps=seen.steps)
    gradient_of = GradientOf(model, [next(iter(dict(model.named_parameters())))])
    watch, truth = gradient_of.watch(), data.truth_of(seen)
    gradient_of(normalised(truth.images), truth.labels)
    for mean, variance, (known_mean, known_variance) in zip(
        watch.means, watch.variances, revealed, strict=True
    ):
        torch.testing.assert_close(mean, known_mean, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(variance, known_variance, atol=1e-3, rtol=1e-2)


def test_the_opened_sum_is_the_gradient_of_all_sites_images(tmp_path: Path) -> None:
    experiment = secure(experiment_of(tmp_path))
    run = record(experiment, tmp_path / "run")
    data, model = SitesData(experiment), first_model(experiment, 3)
    names = [name for name, _ in model.named_parameters()]
    ((name, number),) = updates_of(run, "secure_sum")
    seen = read_seen(run, name, number, experiment, data.size_of, {})
    assert seen.sites == ("a", "b", "c")
    truth = data.truth_of(seen)
    own = GradientOf(model, names)(normalised(truth.images), truth.labels)
    gradient = gradient_of_change(seen.change, names, experiment)
    # group norm: the mean of three one-image gradients is the gradient of the batch of three
    assert float(cosine_distance([g.detach() for g in own], gradient)) < 1e-4
    assert [name for name, _ in updates_of(run, "masked_update")] == ["a", "b", "c"]


def test_random_numbers_have_the_norms_of_the_gradient_and_not_its_direction() -> None:
    like = (torch.full((100,), 2.0), torch.ones(50, 40))
    drawn = random_gradient(like, torch.Generator().manual_seed(0))
    assert [float(t.norm()) for t in drawn] == pytest.approx([20.0, 2000**0.5])
    assert abs(1 - float(cosine_distance(drawn, like))) < 0.2


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("secure_sum", "target=secure_sum of a plain run; expected a run with aggregation=secure"),
        ("local_model", "target=local_model of a run with 3 sites; expected the run of one site"),
        ("single_image", "on 3 images; expected one; simulate with training.batch_size=1"),
    ],
)
def test_a_target_that_the_run_does_not_have(target: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        check_target(target, experiment_of(tmp_path, batch_size=3), lambda _: 12)


def test_a_plain_target_of_a_secure_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of a secure run; expected a run with aggregation=plain"):
        check_target("received_update", secure(experiment_of(tmp_path)), lambda _: 12)


def test_several_steps_are_no_batch(tmp_path: Path) -> None:
    experiment = replace(experiment_of(tmp_path), training=TrainingConfig(batch_size=4))
    with pytest.raises(ConfigError, match="a took 3 steps a round; expected one"):
        check_target("batch", experiment, lambda _: 12)


def test_a_run_that_was_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"simulate it again with debug\.record_received=true"):
        rounds_of(tmp_path)


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    run = record(experiment_of(tmp_path), tmp_path / "run")
    base = read_received(run, 2, MODEL).arrays
    fewer = {name: value for name, value in base.items() if "weight" in name}
    with pytest.raises(DataError, match="does not fit the round's model"):
        read_received(run, 2, "a").change(fewer)
    (run / "received" / "round-002" / "a.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="cannot be read"):
        read_received(run, 2, "a")
