"""What a private run may start from, and what its start adds to the claim."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.models import ModelCard, build_model, load_model, save_model
from primia_flwr.models.provenance import (
    NOBODY,
    UNKNOWN,
    Provenance,
    after_run,
    arrays_digest,
    read_added,
    same_arrays,
)
from primia_flwr.models.weights_card import check_start, provenance_of

CFG = ModelConfig(name="simpleconv", norm="group")
PRIVATE = PrivacyConfig(mode="dp_sgd", epsilon=8.0, delta=1e-4)
STATED = replace(PRIVATE, weights_without_patients=True)
OPEN = Provenance(unprotected=True, drawn=False)
SPENT = Provenance(epsilon=3.0, delta=1e-5, drawn=False)


def saved(folder: Path, provenance: Provenance | None, **card: object) -> str:
    """A saved model with such a card; returns the path of its weights."""
    model = build_model(CFG, outputs=2, channels=1, seed=0)
    values = ModelCard(CFG, ("a", "b"), 1, 32, "squash", (0.5,), (0.2,), "c0ffee", 3, False)
    save_model(folder, model, replace(values, provenance=provenance, **card))
    return str(folder / "model.safetensors")


def test_a_card_keeps_its_provenance(tmp_path: Path) -> None:
    for number, provenance in enumerate((SPENT, OPEN, NOBODY)):
        weights = saved(tmp_path / str(number), provenance)
        assert load_model(Path(weights).parent)[1].provenance == provenance
        assert provenance_of(weights) == provenance


@pytest.mark.parametrize("source", ["none", "imagenet"])
def test_public_weights_add_nothing(source: str) -> None:
    assert check_start(source, PRIVATE, synthetic=False) == NOBODY


def test_weights_of_a_private_run_add_their_epsilon(tmp_path: Path) -> None:
    assert check_start(saved(tmp_path, SPENT), PRIVATE, synthetic=False) == SPENT


@pytest.mark.parametrize("synthetic", [False, True])
def test_weights_that_were_trained_without_privacy_are_refused(
    tmp_path: Path, synthetic: bool
) -> None:
    for number, provenance in enumerate((OPEN, replace(SPENT, unprotected=True))):
        weights = saved(tmp_path / str(number), provenance)
        with pytest.raises(ConfigError, match=r"trained without privacy.*weights_without_patients"):
            check_start(weights, PRIVATE, synthetic=synthetic)
        assert check_start(weights, STATED, synthetic=synthetic) == NOBODY
        assert check_start(weights, PrivacyConfig(), synthetic=synthetic) == provenance


def test_weights_from_drawn_images_are_of_no_real_patient(tmp_path: Path) -> None:
    weights = saved(tmp_path, Provenance(unprotected=True, drawn=True))
    assert check_start(weights, PRIVATE, synthetic=False) == NOBODY
    with pytest.raises(ConfigError, match="trained without privacy"):  # the same images, perhaps
        check_start(weights, PRIVATE, synthetic=True)


def _copied_alone(weights: Path) -> Path:
    target = weights.parent.parent / "alone.safetensors"
    shutil.copy(weights, target)
    return target


def _other_bytes(weights: Path) -> Path:
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    return weights


def _no_card(weights: Path) -> Path:
    (weights.parent / "model.json").unlink()
    return weights


def _damaged_card(weights: Path) -> Path:
    (weights.parent / "model.json").write_text("{")
    return weights


def _foreign_numbers(weights: Path) -> Path:
    card = weights.parent / "model.json"
    values = json.loads(card.read_text())
    values["provenance"]["epsilon"] = -3.0
    card.write_text(json.dumps(values))
    return weights


def _other_model_beside_it(weights: Path) -> Path:
    """A private run's folder into which other weights were put under another name."""
    target = weights.parent / "other.safetensors"
    target.write_bytes(weights.read_bytes() + b" ")
    return target


@pytest.mark.parametrize(
    "change",
    [
        _copied_alone,
        _other_bytes,
        _no_card,
        _damaged_card,
        _foreign_numbers,
        _other_model_beside_it,
        lambda weights: weights.with_name("missing.pth"),
    ],
)
def test_weights_of_unknown_origin_are_refused(tmp_path: Path, change: object) -> None:
    source = str(change(Path(saved(tmp_path / "run", SPENT))))  # type: ignore[operator]
    assert provenance_of(source) is None
    with pytest.raises(ConfigError, match=r"has no model\.json beside it"):
        check_start(source, PRIVATE, synthetic=False)
    assert check_start(source, STATED, synthetic=False) == NOBODY


def test_cards_of_before_say_unprotected(tmp_path: Path) -> None:
    """They do not say what the run itself started from, nor its epsilon in a number."""
    assert provenance_of(saved(tmp_path / "a", None)) == UNKNOWN
    assert provenance_of(saved(tmp_path / "b", None, privacy="epsilon = 3 ...")) == UNKNOWN
    drawn = provenance_of(saved(tmp_path / "c", None, synthetic=True))
    assert drawn == Provenance(unprotected=True, drawn=True)
    on_others = replace(CFG, weights="of-patients.safetensors")
    assert provenance_of(saved(tmp_path / "d", None, synthetic=True, model=on_others)) == UNKNOWN


def test_after_a_run_by_hand() -> None:
    after = after_run(NOBODY, PRIVATE, epsilon=2.0, synthetic=False)
    assert after == Provenance(False, 2.0, 1e-4, False)
    # a second private run on top: both add up
    again = after_run(after, PRIVATE, epsilon=5.0, synthetic=False)
    assert (again.unprotected, again.epsilon) == (False, 7.0)
    assert again.delta == pytest.approx(2e-4)
    for cfg, epsilon in ((PrivacyConfig(), None), (PRIVATE, None), (PRIVATE, float("inf"))):
        assert after_run(after, cfg, epsilon=epsilon, synthetic=False).unprotected
    # once without privacy, always without it
    assert after_run(OPEN, PRIVATE, epsilon=2.0, synthetic=False).unprotected
    assert after_run(NOBODY, PrivacyConfig(), epsilon=None, synthetic=True).drawn
    assert not after_run(OPEN, PrivacyConfig(), epsilon=None, synthetic=True).drawn


def test_what_a_run_folder_says_is_read(tmp_path: Path) -> None:
    assert read_added(tmp_path) == NOBODY
    (tmp_path / "first-weights.json").write_text(json.dumps({"added": SPENT.to_dict()}))
    assert read_added(tmp_path) == SPENT
    (tmp_path / "first-weights.json").write_text('{"added": {"epsilon": "3"}}')
    with pytest.raises(CheckpointError):
        read_added(tmp_path)


def test_digest_of_arrays_by_hand() -> None:
    arrays = {"b": np.array([2.0], np.float32), "a": np.array([[1.0]], np.float32)}
    content = b"primia first weights v1\0a\0<f4\0(1, 1)\0" + np.float32(1).tobytes()
    content += b"b\0<f4\0(1,)\0" + np.float32(2).tobytes()
    expected = hashlib.sha256(content).hexdigest()
    assert arrays_digest(arrays) == arrays_digest(dict(reversed(arrays.items()))) == expected
    assert arrays_digest({n: a.astype(">f4") for n, a in arrays.items()}) == expected
    assert arrays_digest({**arrays, "b": np.array([2.5], np.float32)}) != expected


def test_arrays_are_the_same_up_to_rounding() -> None:
    linear = nn.Linear(4, 3)
    arrays = {name: value.detach().numpy() for name, value in linear.state_dict().items()}
    assert same_arrays({n: a * (1 + 5e-5) for n, a in arrays.items()}, arrays)
    assert not same_arrays({n: a * (1 + 1e-2) for n, a in arrays.items()}, arrays)
    assert not same_arrays({"weight": arrays["weight"]}, arrays)
    assert not same_arrays({n: a.reshape(-1) for n, a in arrays.items()}, arrays)
    spoiled = {n: np.full_like(a, np.nan) for n, a in arrays.items()}
    assert not same_arrays(spoiled, arrays)
