from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import (
    NORMS,
    OPTIMIZERS,
    PRECISIONS,
    EarlyStoppingConfig,
    FederationStoppingConfig,
    ModelConfig,
    SiteStoppingConfig,
    TrainingConfig,
)
from primia_flwr.config.load import parse
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.models.layers.resnet import BLOCKS
from primia_flwr.training.evaluate import AUTOCAST_TYPES
from primia_flwr.training.optimizer import OPTIMIZERS as OPTIMIZER_TABLE
from tests.training.tiny_training import with_patience

CONF = Path(__file__).parents[2] / "conf"


def test_the_default_file_spells_every_default() -> None:
    written = OmegaConf.load(CONF / "training" / "default.yaml")
    assert written == OmegaConf.structured(TrainingConfig())


@pytest.mark.parametrize("name", MODELS)
def test_model_files_spell_every_key_and_differ_by_name_only(name: str) -> None:
    """Where channels are no multiples of 32, by the groups of their norm, too."""
    written = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    groups = 8 if name in ("mobilenet_v2", "unet", "unet3d", "unet_resnet18", "unet_small") else 32
    assert written == OmegaConf.structured(ModelConfig(name=name, norm_groups=groups))


@pytest.mark.parametrize("path", sorted((CONF / "training").glob("*.yaml")), ids=lambda p: p.stem)
def test_training_files_are_valid(path: Path) -> None:
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, type(OmegaConf.create({})))
    cfg.pop("defaults", None)
    parse(TrainingConfig, cfg)


def test_names_of_the_configuration_are_those_of_the_tables() -> None:
    assert tuple(OPTIMIZER_TABLE) == OPTIMIZERS
    assert {norm for _, norm in BLOCKS} == set(NORMS)
    assert {"fp32", *AUTOCAST_TYPES} == set(PRECISIONS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "adamax"}, r"training.optimizer=adamax.*did you mean adam"),
        ({"schedule": "cosine"}, r"training.schedule=cosine"),
        ({"learning_rate": 0.0}, r"training.learning_rate=0.0.*above 0"),
        ({"learning_rate": float("nan")}, r"training.learning_rate=nan"),
        ({"min_learning_rate": 0.5}, r"training.min_learning_rate=0.5.*at most 0.001"),
        ({"warmup": 1.0}, r"training.warmup=1.0.*below 1"),
        ({"cycles": 0}, r"training.cycles=0"),
        ({"momentum": 1.0}, r"training.momentum=1.0"),
        ({"betas": [0.9]}, r"training.betas has 1 entries; expected 2"),
        ({"betas": [0.9, 1.0]}, r"training.betas=1.0"),
        ({"weight_decay": -1}, r"training.weight_decay=-1"),
        ({"optimizer_state": "forget"}, r"training.optimizer_state=forget"),
        ({"batch_size": 0}, r"training.batch_size=0"),
        ({"local_epochs": 0}, r"training.local_epochs=0"),
        ({"sync_every_n_batches": -1}, r"training.sync_every_n_batches=-1"),
        ({"class_weights": "auto"}, r"training.class_weights=auto"),
        ({"label_smoothing": 1.0}, r"training.label_smoothing=1.0"),
        ({"gradient_clip": -1.0}, r"training.gradient_clip=-1.0"),
        ({"proximal_mu": -0.1}, r"training.proximal_mu=-0.1"),
        ({"precision": "fp8"}, r"training.precision=fp8"),
        ({"precision": "fp16", "device": "cpu"}, r"fp16 needs a GPU"),
        ({"device": "tpu"}, r"training.device=tpu"),
        ({"workers": -1}, r"training.workers=-1"),
        ({"threads": -1}, r"training.threads=-1"),
    ],
)
def test_training_config_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**values)  # type: ignore[arg-type]


def test_patience_that_could_never_stop_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"patience=2 .*local_epochs=2 can never stop"):
        with_patience(TrainingConfig(local_epochs=2), 2)
    with_patience(TrainingConfig(local_epochs=3), 2)
    with_patience(TrainingConfig(sync_every_n_batches=500), 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patience": -1}, r"early_stopping.site.patience=-1"),
        ({"retire_after": 2}, r"retire_after=2 with .*patience=0"),
    ],
)
def test_site_stopping_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SiteStoppingConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", ["site", "federation"])
def test_a_monitor_that_is_no_metric_of_the_task_is_refused(scope: str) -> None:
    kind = {"site": SiteStoppingConfig, "federation": FederationStoppingConfig}[scope]
    stopping = EarlyStoppingConfig(**{scope: kind(monitor="auc")})
    expected = rf"early_stopping.{scope}.monitor=auc; expected one of loss, accuracy, .*mcc"
    with pytest.raises(ConfigError, match=expected):
        Experiment(training=TrainingConfig(early_stopping=stopping))


def test_early_stopping_is_replaceable() -> None:
    stopping = EarlyStoppingConfig(federation=FederationStoppingConfig(patience=4))
    assert (
        replace(TrainingConfig(), early_stopping=stopping).early_stopping.federation.patience == 4
    )
