import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, RecordDict

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.deployment import DeploymentConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.load import to_yaml
from primia_flwr.errors import ConfigError, FederationError
from primia_flwr.models import load_model
from strategies.server_app import app, class_names, output_folder


@pytest.fixture
def experiment(tmp_path):
    return Experiment(
        output_dir=str(tmp_path / "run"),
        data=DataConfig(classes=["normal", "pneumonia"], image_size=32),
        model=ModelConfig(name="simpleconv"),
        federation=FederationConfig(
            rounds=2, sites=["munich", "paris"], min_sites=2, wait_for_sites=0
        ),
    )


@pytest.fixture
def fake(make_site, make_grid):
    """Sites that send the incoming model back, plus one on every floating entry."""

    class Echo(make_site):
        def _train(self, message):
            model = message.content["arrays"]
            message.content["arrays"] = toy
            reply = super()._train(message)
            reply["arrays"] = ArrayRecord(
                {name: Array(array.numpy() + np.float32(1)) for name, array in model.items()}
            )
            return reply

        def _evaluate(self, message):
            message.content["arrays"] = toy
            return super()._evaluate(message)

    toy = ArrayRecord({"w": Array(np.zeros(2, dtype=np.float32))})
    return make_grid({1: Echo("munich"), 2: Echo("paris")})


def context(experiment):
    return Context(1, 1, {}, RecordDict(), {"config": to_yaml(experiment)})


def test_a_run_leaves_its_model_its_result_and_its_history(experiment, fake, tmp_path):
    app(fake, context(experiment))
    run = tmp_path / "run"
    result = json.loads((run / "result.json").read_text())
    assert (result["rounds"], result["best_round"], result["stopped"]) == (2, 1, "rounds")
    assert result["pixel_mean"] == [0.5]
    assert [site["site"] for site in result["sites"]] == ["munich", "paris"]
    model, card = load_model(run)
    assert (card.classes, card.round, card.mean) == (("normal", "pneumonia"), 1, (0.5,))
    assert card.config_hash
    assert not model.training
    assert (run / "history.csv").exists()
    assert (run / "sites.csv").exists()
    assert not (run / "error.json").exists()


def test_the_first_weights_follow_from_the_seed(experiment, fake, tmp_path):
    sent = []
    for name in ("a", "b"):
        experiment.output_dir = str(tmp_path / name)
        fake.sites[1].tricks["train", fake.sites[1].seen.count("train") + 1] = (
            lambda content, message: sent.append(content) or content
        )
        app(fake, context(experiment))
    first, second = (
        {name: array.numpy().tobytes() for name, array in content["arrays"].items()}
        for content in sent
    )
    assert first == second


def test_an_error_is_one_sentence_for_the_launcher(experiment, fake, tmp_path):
    fake.offline.add(1)
    with pytest.raises(FederationError):
        app(fake, context(experiment))
    error = json.loads((tmp_path / "run" / "error.json").read_text())["error"]
    assert "1 of at least 2 sites are online" in error
    fake.offline.clear()
    app(fake, context(experiment))
    assert not (tmp_path / "run" / "error.json").exists()


def test_a_surprise_is_one_sentence_too(experiment, fake, tmp_path):
    def explode():
        raise RuntimeError("cosmic ray")

    fake.on_look = explode
    with pytest.raises(RuntimeError):
        app(fake, context(experiment))
    error = json.loads((tmp_path / "run" / "error.json").read_text())["error"]
    assert "stopped unexpectedly (RuntimeError: cosmic ray)" in error


def test_without_a_folder_a_new_one_is_made_below_the_current_one(
    experiment, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    experiment.output_dir = ""
    folder = output_folder(experiment)
    assert folder.is_dir()
    assert folder.parent.parent == tmp_path / "outputs"
    assert folder.name.endswith("-demo")
    experiment.resume = str(tmp_path / "before")
    assert output_folder(experiment) == tmp_path / "before"


@pytest.mark.skipif(not Path("/proc/1").exists(), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_made_is_named(experiment):
    experiment.output_dir = "/proc/1/run"
    with pytest.raises(ConfigError, match=r"output_dir=/proc/1/run .*expected a folder"):
        output_folder(experiment)


def test_a_coordinator_without_data_must_be_told_the_classes(experiment):
    assert class_names(experiment) == ("normal", "pneumonia")
    experiment.data.classes = []
    experiment.data.synthetic.patients = 60
    assert len(class_names(experiment)) == 3
    experiment.deployment = DeploymentConfig(
        kind="deployment", superlink="fl:9391", root_certificates="ca.crt", roster="roster.yaml"
    )
    with pytest.raises(ConfigError, match=r"data.classes"):
        class_names(experiment)
