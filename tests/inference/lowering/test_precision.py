"""Models that are others in fixed point than in the clear are refused; honest ones pass."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.cli.main import run
from primia_flwr.errors import ConfigError
from primia_flwr.inference.lowering.bounds import bounds_of
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.lowering.precision import (
    calibrate,
    check_precision,
    is_precise,
    precision_of,
)
from primia_flwr.models.activation_bounds import Precision
from primia_flwr.models.saved import load_model, save_model
from tests.e2e.test_encrypted_inference import write_images, write_model
from tests.inference.lowering.test_bounds import network
from tests.inference.protocol.test_online import small_model


def rescaled(model: nn.Module, by: float) -> nn.Module:
    """The same function in the clear: ReLU is homogeneous."""
    other = copy.deepcopy(model)
    norm = [layer for layer in other.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        norm.weight.mul_(by)
        norm.bias.mul_(by)
        other.get_parameter("classifier.weight").div_(by)
    return other


def pictures(count: int = 12) -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(1, 1, 16, 16, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("by", [1.0, 0.5, 4.0])
def test_an_honest_model_passes(by: float) -> None:
    bounds, found = calibrate(rescaled(small_model("simpleconv"), by), pictures())
    assert bounds.images == 12
    assert bounds.precision == found
    assert (found.changed, found.ties_changed) == (0, 0)
    assert found.largest_difference < 0.01
    assert found.wrong_cuts < 1e-4
    assert max(bounds.bits) <= 32


@pytest.mark.parametrize("by", [1e-9, 1e-4, 6e-4, 2e4, 1e6])
def test_a_model_that_loses_precision_is_refused(by: float) -> None:
    """Attack: plain scores are the same, encrypted ones are not, and nobody said so."""
    model, images = small_model("simpleconv"), pictures()
    other = rescaled(model, by)
    with torch.inference_mode():
        for image in images:
            assert torch.allclose(model(image), other(image), atol=1e-3)
    with pytest.raises(ConfigError, match="it loses precision"):
        calibrate(other, images)


def test_weights_that_do_not_fit_into_the_ring_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"weights have a value of magnitude .*nothing was writ"):
        calibrate(rescaled(small_model("simpleconv"), 1e13), pictures(1))


def test_scores_that_are_too_close_for_fixed_point_are_refused() -> None:
    """Scores within a few units of one another: none is far off, and the classes are lost."""
    model = small_model("simpleconv")
    with torch.no_grad():
        model.get_parameter("classifier.weight").mul_(1e-4)
        model.get_parameter("classifier.bias").zero_()
    with pytest.raises(ConfigError, match=r"keeps the class of .* images"):
        calibrate(model, pictures())


def test_a_ring_that_there_is_not_is_refused() -> None:
    lowered = lower(network(0.0), (1, 1, 4, 4))
    bounds_of(lowered, [1e13] * 3, images=1)
    with pytest.raises(ConfigError, match="takes a ring of 66 bits; expected at most 64"):
        bounds_of(lowered, [1e14] * 3, images=1)


@pytest.mark.parametrize("pixel", [float("nan"), float("inf")])
def test_images_that_are_none_are_refused(pixel: float) -> None:
    with pytest.raises(ConfigError, match="not finite"):
        calibrate(network(0.0), [torch.full((1, 1, 4, 4), pixel)])
    with pytest.raises(ConfigError, match="no images"):
        calibrate(network(0.0), [])


def test_what_is_compared_by_hand() -> None:
    plain = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.25, 0.251], [0.0, -2.0]]).double()
    fixed = torch.tensor([[1.0, 0.0], [0.5, 0.25], [0.252, 0.25], [0.0, -2.0]]).double()
    found = precision_of(plain, fixed, wrong_cuts=1e-6)
    # The second changes its class; the third does, too, with a margin below 2 / 50.
    assert found == Precision(2.0, 0.5, 1, 1, 1e-6)


def test_findings_are_compared_one_by_one() -> None:
    plain = torch.tensor([[1.0, -1.0], [1.0, 0.01], [1.0, -0.01], [-0.5, 3.0]]).double()
    fixed = torch.tensor([[1.0, -1.0], [1.0, -0.01], [-1.0, 0.01], [-0.5, 2.0]]).double()
    found = precision_of(plain, fixed, wrong_cuts=0.0, several=True)
    # The second changes a finding that was a tie, below 3 / 50; the third one that was clear, too.
    # The fourth calls what it called, though its largest score is another.
    assert found == Precision(3.0, 2.0, 1, 1, 0.0)


@pytest.mark.parametrize(
    ("found", "images", "words"),
    [
        (Precision(5.0, 0.02, 0, 0, 1e-5), 10, ""),
        (Precision(5.0, 0.021, 0, 0, 1e-5), 10, "within 0.021; expected 0.02"),
        (Precision(40.0, 0.039, 0, 0, 1e-5), 10, ""),
        (Precision(40.0, 0.041, 0, 0, 1e-5), 10, "expected 0.04"),
        (Precision(5.0, 0.001, 1, 0, 1e-5), 1000, "keeps the class of 999 of 1000 images"),
        (Precision(5.0, 0.001, 0, 1, 1e-5), 10, ""),
        (Precision(5.0, 0.001, 0, 2, 1e-5), 100, "one in 100 that was a tie"),
        (Precision(5.0, 0.001, 0, 2, 1e-5), 200, ""),
        (Precision(5.0, 0.001, 0, 0, 0.011), 10, "0.011 of them would be cut wrongly"),
    ],
)
def test_what_is_good_enough(found: Precision, images: int, words: str) -> None:
    assert is_precise(found, images) is (not words)
    if words:
        with pytest.raises(ConfigError, match=words):
            check_precision(found, images)


def test_a_refusal_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(tmp_path / "model")
    images = write_images(tmp_path / "images", 3)
    words = ["inference", "calibrate", f"model={folder}", f"data.root={images}"]
    assert run(words) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "on 3 images: the same class for 3, scores within" in told
    assert "3 images are few" in told
    model, card = load_model(folder)
    save_model(folder, rescaled(model, 1e-4), card)
    before = (folder / "model.json").read_bytes()
    assert run(words) == 2
    assert "it loses precision" in " ".join(capsys.readouterr().err.split())
    assert (folder / "model.json").read_bytes() == before
