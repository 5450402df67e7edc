"""The search, on a model small enough that it must succeed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.attacks.inversion.config import InversionConfig
from primia_flwr.attacks.inversion.descent import Observation
from primia_flwr.attacks.inversion.gradients import GradientOf
from primia_flwr.attacks.inversion.inversion import invert
from primia_flwr.attacks.inversion.targets import random_gradient
from primia_flwr.errors import ConfigError
from primia_flwr.training.normalisation import Normalisation

UNIT = Normalisation((0.5,), (0.25,))
SHAPE = (1, 12, 12)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(800, 3))


def _image() -> Tensor:
    across = torch.linspace(0, 1, 12)
    return ((across[None] * 3).sin() * across[:, None]).abs()[None, None]


def _mse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


@pytest.mark.parametrize(
    ("method", "variation", "error"), [("paper", 0.001, 0.002), ("spectral", 0.01, 0.008)]
)
def test_an_image_comes_back_from_its_gradient_and_not_from_noise(
    method: str, variation: float, error: float
) -> None:
    gradient_of = GradientOf(_model(), ["0.weight", "0.bias", "3.weight", "3.bias"])
    labels = torch.tensor([2])
    gradient = tuple(g.detach() for g in gradient_of(UNIT.apply(_image()), labels))
    noise = random_gradient(gradient, torch.Generator().manual_seed(1))
    cfg = InversionConfig(
        method, iterations=300, restarts=2, step_size=0.1, total_variation=variation
    )

    def rebuilt(of: tuple[Tensor, ...]) -> Tensor:
        seed = torch.Generator().manual_seed(3)
        found = invert(gradient_of, Observation(of, labels), SHAPE, UNIT, cfg, generator=seed)
        assert found.objective == min(found.objectives)
        assert len(found.objectives) == 2
        return found.images

    right, wrong = rebuilt(gradient), rebuilt(noise)
    assert _mse(right, _image()) < error
    assert _mse(wrong, _image()) > 0.02


@pytest.mark.parametrize("method", ["paper", "spectral"])
def test_pixels_stay_in_the_box_and_a_seed_fixes_the_result(method: str) -> None:
    gradient_of = GradientOf(_model(), ["0.weight"])
    observed = Observation((torch.randn(8, 1, 3, 3),), torch.tensor([0, 1]))
    cfg = InversionConfig(method, iterations=5, step_size=5.0)

    def once() -> Tensor:
        seed = torch.Generator().manual_seed(7)
        return invert(gradient_of, observed, SHAPE, UNIT, cfg, generator=seed).images

    images = once()
    assert images.shape == (2, 1, 12, 12)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert torch.equal(images, once())


def test_batch_statistics_pull_the_images_towards_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(144, 2))
    gradient_of = GradientOf(model, ["2.weight"])
    dark = [(torch.tensor([-1.5]), torch.tensor([0.1]))]  # a mean pixel of 0.125
    cfg = InversionConfig("paper", iterations=60, step_size=0.3, batch_statistics=10.0)
    gradient = (torch.randn(2, 144),)

    def mean(observed: Observation) -> float:
        seed = torch.Generator().manual_seed(1)
        found = invert(gradient_of, observed, SHAPE, UNIT, cfg, generator=seed)
        return float(found.images.mean())

    assert mean(Observation(gradient, torch.tensor([0]), dark)) == pytest.approx(0.125, abs=0.05)
    assert mean(Observation(gradient, torch.tensor([0]))) > 0.3


def test_progress_counts_over_all_starts() -> None:
    gradient_of = GradientOf(_model(), ["0.weight"])
    observed = Observation((torch.randn(8, 1, 3, 3),), torch.tensor([0]))
    steps: list[int] = []
    invert(
        gradient_of, observed, SHAPE, UNIT, InversionConfig(iterations=15, restarts=2),
        generator=torch.Generator().manual_seed(0), on_step=lambda step, _: steps.append(step),
    )  # fmt: skip
    assert steps == [10, 15, 25, 30]


@pytest.mark.parametrize(
    ("key", "value"),
    [("iterations", 0), ("restarts", 0), ("step_size", 0.0), ("method", "grey")],
)
def test_a_bad_setting_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{key}={value}; expected"):
        InversionConfig(**{key: value})  # type: ignore[arg-type]
