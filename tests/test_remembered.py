"""What the tests remember is what the product would make anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from primia_flwr.config import load
from primia_flwr.errors import ConfigError


def anew(words: Sequence[str]) -> str:
    """Compose as Hydra does, which remembers nothing unless it is asked through `load.compose`."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(load.app_root() / "conf"), version_base="1.3"):
        return OmegaConf.to_yaml(hydra.compose("config", list(words)))


@pytest.mark.parametrize(
    "words",
    [
        ["seed=5"],
        ["seed=6"],  # the same choices of files
        ["model=vgg16", "model.norm=group"],
        ["model.norm=group", "model=vgg16"],
        ["experiment=demo", "privacy=dp_sgd", "privacy.epsilon=3"],
        ["~tracking"],
        ["+more={a: 1}", "strategy=fedadam"],
        ["strategy=fedavg"],
    ],
)
def test_a_configuration_is_that_of_hydra(words: list[str]) -> None:
    expected = anew(words)
    for _ in range(2):
        assert OmegaConf.to_yaml(load.compose("config", words)) == expected
    assert anew(words) == expected


@pytest.mark.parametrize("words", [["model=none"], ["~model=vgg16"], ["+model=vgg16"], ["x=1"]])
def test_what_hydra_refuses_is_refused_again(words: list[str]) -> None:
    with pytest.raises(HydraException):
        anew(words)
    for _ in range(2):
        with pytest.raises(ConfigError):
            load.compose("config", words)


def test_files_of_one_name_in_two_folders_are_two() -> None:
    for _ in range(2):
        keys = [set(load.compose(f"commands/{folder}/log", [])) for folder in ("site", "runs")]
        assert "site" in keys[0] - keys[1]
        assert "run" in keys[1] - keys[0]


def test_what_a_change_writes_is_not_what_was_written_before() -> None:
    first = load.compose_experiment(["seed=5"])
    for changed in (first, replace(first, seed=6), first):
        anew_written = OmegaConf.to_yaml(OmegaConf.structured(changed))
        for _ in range(2):
            assert load.to_yaml(changed) == anew_written
            assert load.load_experiment(anew_written) == changed
