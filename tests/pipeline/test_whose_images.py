"""Whose images a run is of: drawn by formula in a simulation and a trial, else a real site's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose_experiment
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.pipeline.experiment import _data
from primia_flwr.pipeline.first_model import model_card, trained_provenance
from primia_flwr.training.normalisation import Normalisation


def deployed(*, trial: bool) -> Experiment:
    deployment = DeploymentConfig(
        kind="deployment",
        superlink="fl:9391",
        root_certificates="ca.crt",
        roster="roster.yaml",
        trial=trial,
    )
    return replace(compose_experiment(["data.classes=[ill,well]"]), deployment=deployment)


class Nobody:
    def say(self, text: str) -> None: ...


@pytest.mark.parametrize("trial", [True, False])
def test_the_default_layout_makes_no_real_images_synthetic(trial: bool) -> None:
    experiment = deployed(trial=trial)
    assert experiment.data.layout == "synthetic"  # what the coordinator did not change
    nobody: LabelledImages | None = None
    facts = _data(experiment, nobody, Nobody())  # type: ignore[arg-type]
    assert facts["synthetic"] is trial
    card = model_card(experiment, ("ill", "well"), Normalisation((0.5,), (0.2,)), 1)
    assert card.synthetic is trial
    # else a private run could start from weights with its own patients in them, uncharged
    assert trained_provenance(experiment, epsilon=None).drawn is trial


def test_a_simulation_with_drawn_images_says_so() -> None:
    assert compose_experiment().trains_on_synthetic
    assert not compose_experiment(["data.layout=folder", "data.root=x"]).trains_on_synthetic
