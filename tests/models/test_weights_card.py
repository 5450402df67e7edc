"""Weights whose arrays fit a model of another kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models import ModelCard, build_model
from primia_flwr.models.saved import save_model

GROUP = ModelConfig(name="simpleconv", norm="group")


def saved(folder: Path, cfg: ModelConfig = GROUP, classes: tuple[str, ...] = ("a", "b")) -> str:
    model = build_model(cfg, outputs=len(classes), channels=1, seed=0)
    card = ModelCard(
        model=cfg,
        classes=classes,
        channels=1,
        image_size=32,
        resize="squash",
        mean=(0.5,),
        std=(0.25,),
        config_hash="0" * 16,
        round=1,
        synthetic=True,
    )
    save_model(folder, model, card)
    return str(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm": "none"}, "model.norm=none; expected group"),
        ({"weight_standardisation": True}, "model.weight_standardisation=true; expected false"),
    ],
)
def test_weights_of_another_norm_are_refused_though_their_arrays_fit(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    cfg = replace(GROUP, weights=saved(tmp_path), **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refused:
        build_model(cfg, outputs=2, channels=1)
    assert words in str(refused.value)


def test_weights_of_the_same_kind_are_loaded(tmp_path: Path) -> None:
    cfg = replace(GROUP, weights=saved(tmp_path))
    model = build_model(cfg, outputs=2, channels=1, seed=7)
    first = build_model(GROUP, outputs=2, channels=1, seed=0)
    name = "classifier.weight"
    assert torch.equal(model.get_parameter(name), first.get_parameter(name))


def test_a_card_of_other_bytes_says_nothing(tmp_path: Path) -> None:
    saved(tmp_path)
    model = build_model(GROUP, outputs=2, channels=1, seed=3)
    save_file(model.state_dict(), other := tmp_path / "other.safetensors")
    build_model(replace(GROUP, norm="none", weights=str(other)), outputs=2, channels=1)


def test_norms_mean_nothing_to_scattering(tmp_path: Path) -> None:
    plain = ModelConfig(name="scattering")
    weights = saved(tmp_path, plain)
    build_model(replace(plain, norm="group", weights=weights), outputs=2, channels=1)


def test_weights_of_which_nothing_fits_are_refused(tmp_path: Path) -> None:
    plain = ModelConfig(name="scattering")
    cfg = replace(plain, weights=saved(tmp_path, plain))
    for classes, channels in ((3, 1), (2, 3)):
        with pytest.raises(ConfigError, match="a classifier of another size and nothing else"):
            build_model(cfg, outputs=classes, channels=channels)
