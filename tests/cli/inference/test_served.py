"""In which ring a model is served, and what is said of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from primia_flwr.cli.inference.served import served_model
from primia_flwr.config.inference import InferenceTrialArguments, ServeModelArguments
from primia_flwr.errors import ConfigError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.service.model_owner import ServedModel
from primia_flwr.models.activation_bounds import ActivationBounds, Precision
from primia_flwr.models.card import weights_digest
from primia_flwr.models.saved import write_bounds
from tests.e2e.test_encrypted_inference import write_model

GOOD = Precision(3.0, 0.001, 0, 0, 1e-6)


def model(tmp_path: Path, precision: Precision | None = None, *, largest: float = 1.0) -> Path:
    folder = write_model(tmp_path / "model")
    if largest:
        sizes = (largest,) * 12
        bounds = ActivationBounds(500, 4, ("relu",) * 12, sizes, (8,) * 12, precision)
        write_bounds(folder, bounds, weights=weights_digest(folder))
    return folder


def served(folder: Path, **options: object) -> ServedModel:
    return served_model(ServeModelArguments(model=str(folder), **options), ring.CPU)  # type: ignore[arg-type]


def test_a_calibrated_model_takes_the_ring_that_its_calibration_recommends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = served(model(tmp_path, GOOD))
    # 1.0 is 2^13 units, 4 spare bits, a sign; a difference takes one bit more: 2^17 < 2^18.
    assert found.compare_bits == 20
    assert (found.calibrated, found.score_limit) == (500, 64.0)  # 16 * 3, as a power of two
    assert not caplog.records


def test_a_ring_that_is_given_wins_where_it_is_large_enough(tmp_path: Path) -> None:
    folder = model(tmp_path, GOOD)
    assert served(folder, compare_bits=48).compare_bits == 48
    with pytest.raises(ConfigError, match="compare_bits=19; expected at least 20"):
        served(folder, compare_bits=19)


@pytest.mark.parametrize("largest", [0.0, 1.0])
def test_a_model_that_is_not_calibrated_takes_the_safe_ring_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, largest: float
) -> None:
    with caplog.at_level(logging.WARNING):
        found = served(model(tmp_path, largest=largest))
    assert (found.compare_bits, found.calibrated, found.score_limit) == (64, 0, 0.0)
    assert "is not calibrated" in caplog.text
    assert "run primia inference calibrate" in caplog.text


def test_with_audits_the_safe_ring_is_the_largest_that_can_be_audited(tmp_path: Path) -> None:
    found = served(model(tmp_path, largest=0.0), audit=True)
    assert 32 <= found.compare_bits <= 47
    sums = [float(w.weight.flatten(1).abs().sum(dim=1).max()) for w in found.lowered(1).weights]
    # Products of numbers of that ring stay below 2^62; those of one bit more need not.
    assert max(sums) * 2.0 ** (found.compare_bits - 1) < 2.0**62
    assert max(sums) * 2.0 ** (found.compare_bits + 1) > 2.0**61


def test_a_small_ring_without_a_reason_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compare_bits=31 for a model without activation bounds"):
        served(model(tmp_path, largest=0.0), compare_bits=31)


def test_a_card_that_says_that_precision_is_lost_is_refused(tmp_path: Path) -> None:
    bad = Precision(3.0, 0.5, 0, 0, 1e-6)
    with pytest.raises(ConfigError, match="it loses precision"):
        served(model(tmp_path, bad))


def test_what_stands_in_the_card_is_read_back(tmp_path: Path) -> None:
    folder = model(tmp_path, GOOD)
    values = json.loads((folder / "model.json").read_text())["activation_bounds"]
    assert values["precision"]["largest_score"] == 3.0
    assert ActivationBounds.from_dict(values).precision == GOOD


@pytest.mark.parametrize("bits", [7, 65, -1])
@pytest.mark.parametrize("arguments", [ServeModelArguments, InferenceTrialArguments])
def test_a_ring_that_is_none_is_refused(arguments: type, bits: int) -> None:
    assert arguments().compare_bits == 0
    with pytest.raises(ConfigError, match=f"compare_bits={bits}"):
        arguments(compare_bits=bits)
