import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import CheckpointError
from primia_flwr.models import ModelCard, build_model, load_model, save_model
from primia_flwr.models.activation_bounds import ActivationBounds
from primia_flwr.models.card import weights_digest
from primia_flwr.models.origin import Origin
from primia_flwr.models.saved import write_bounds

CARD = ModelCard(
    model=ModelConfig(name="simpleconv", norm="group", norm_groups=8, pool="max"),
    classes=("normal", "bacterial", "viral"),
    channels=1,
    image_size=32,
    resize="squash",
    mean=(0.4,),
    std=(0.2,),
    config_hash="0123456789abcdef",
    round=4,
    synthetic=True,
)


BOUNDS = ActivationBounds(7, 4, ("conv", "relu"), (10.0, 0.25), (23, 17))


@pytest.fixture
def model() -> nn.Module:
    built = build_model(CARD.model, outputs=3, channels=1, seed=9)
    return built.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def test_what_was_saved_comes_back(model: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path / "run", model, CARD)
    loaded, card = load_model(tmp_path / "run")
    assert card == CARD
    assert not loaded.training
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(loaded(images), model.eval()(images))
    assert sorted(os.listdir(tmp_path / "run")) == ["model.json", "model.safetensors"]


def test_what_a_card_may_say_besides_comes_back(model: nn.Module, tmp_path: Path) -> None:
    counts = ((1, 2), (0, 3), (4, 0))
    origin = Origin("imagenet", "a-package", "0" * 64, "1" * 64)
    kind = replace(CARD.model, shared="no_norm")
    card = replace(CARD, model=kind, site="munich", origin=origin, set_scores=counts)
    save_model(tmp_path, model, card)
    assert load_model(tmp_path)[1] == card
    save_model(tmp_path, model, replace(card, site=""))
    with pytest.raises(CheckpointError, match=r"lacks its norm layers.*sites/<site>/model"):
        load_model(tmp_path)
    assert load_model(tmp_path, whole=False)[1].lacks == "norm layers"


def test_card_has_the_agreed_keys(model: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path, model, CARD)
    written = json.loads((tmp_path / "model.json").read_text())
    assert written.keys() == {
        *("format", "model", "classes", "channels", "image_size", "resize", "mean", "std"),
        *("config_hash", "round", "synthetic", "sha256", "kind"),
    }
    assert written["format"] == 1


def test_weights_of_a_file_are_not_looked_for_again(model: nn.Module, tmp_path: Path) -> None:
    cfg = replace(CARD.model, weights="/gone/pretrained.safetensors")
    save_model(tmp_path, model, replace(CARD, model=cfg))
    assert load_model(tmp_path)[1].model.weights == "/gone/pretrained.safetensors"


def test_a_card_of_before_weight_standardisation_still_loads(
    model: nn.Module, tmp_path: Path
) -> None:
    save_model(tmp_path, model, CARD)
    path = tmp_path / "model.json"
    written = json.loads(path.read_text())
    del written["model"]["weight_standardisation"]
    path.write_text(json.dumps(written))
    assert load_model(tmp_path)[1] == CARD


def test_full_disk_leaves_the_model_that_was_there(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path, model, CARD)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_model(tmp_path, model, replace(CARD, round=5))
    monkeypatch.undo()
    assert load_model(tmp_path)[1].round == 4
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.safetensors"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing/model\.json cannot be read"):
        load_model(tmp_path / "nothing")


def test_missing_weights_are_named(model: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path, model, CARD)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_model(tmp_path)


def test_one_changed_byte_is_noticed(model: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path, model, CARD)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format=2; expected 1"),
        ({"model": {"name": "resnet19"}}, "cannot be read.*resnet19"),
        ({"classes": None}, "a model card that"),
        ({"channels": 3}, "mean="),
        ({"set_scores": [[1, 2], [0, 3]]}, "set_scores="),  # of two classes
        ({"set_scores": [[1, 2], [0, 3], [1]]}, "set_scores="),
        ({"set_scores": [[1, 2], [0, 3], [1, -1]]}, "set_scores="),
        ({"set_scores": [[1, 2], [0, 3], [1, 0.5]]}, "set_scores="),
        ({"set_scores": [[], [], []]}, "set_scores="),
        ({"set_scores": 3}, "a model card that"),
        ({"origin": {"source": "none"}}, "a model card that"),
        ({"origin": [1]}, "a model card that"),
        ({"channels": 3, "mean": [0.1] * 3, "std": [0.1] * 3}, "does not fit"),
    ],
)
def test_other_cards_are_refused(
    change: dict[str, object], message: str, model: nn.Module, tmp_path: Path
) -> None:
    save_model(tmp_path, model, CARD)
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "not json"])
def test_cards_that_are_no_cards_are_refused(text: str, model: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path, model, CARD)
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.json cannot be read"):
        load_model(tmp_path)


def test_bounds_stand_in_the_card_and_change_nothing_else(model: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path, model, CARD)
    path = tmp_path / "model.json"
    before = {**json.loads(path.read_text()), "note": "of a later version"}
    path.write_text(json.dumps(before))
    digest = weights_digest(tmp_path)
    write_bounds(tmp_path, replace(BOUNDS, images=1), weights=digest)
    write_bounds(tmp_path, BOUNDS, weights=digest)
    assert json.loads(path.read_text()) == {
        **before,
        "activation_bounds": {
            "images": 7,
            "spare_bits": 4,
            "layers": ["conv", "relu"],
            "largest": [10.0, 0.25],
            "bits": [23, 17],
        },
    }
    assert load_model(tmp_path)[1] == replace(CARD, activation_bounds=BOUNDS)
    assert weights_digest(tmp_path) == digest
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.safetensors"]


def test_bounds_do_not_go_to_other_weights(model: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path, model, CARD)
    digest = weights_digest(tmp_path)
    write_bounds(tmp_path, BOUNDS, weights=digest)
    other = build_model(CARD.model, outputs=3, channels=1, seed=10)
    save_model(tmp_path, other, load_model(tmp_path)[1])  # trained on, under the same card
    assert load_model(tmp_path)[1].activation_bounds is None
    with pytest.raises(CheckpointError, match=r"other weights .*calibrate again"):
        write_bounds(tmp_path, BOUNDS, weights=digest)
    assert load_model(tmp_path)[1] == CARD


def test_full_disk_leaves_the_card_that_was_there(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path, model, CARD)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*card .* unchanged"):
        write_bounds(tmp_path, BOUNDS, weights=weights_digest(tmp_path))
    assert load_model(tmp_path)[1] == CARD
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.safetensors"]


def test_bounds_without_a_card_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.json cannot be read"):
        write_bounds(tmp_path, BOUNDS, weights="ab" * 32)
    assert os.listdir(tmp_path) == []
