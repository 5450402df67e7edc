"""The parts of the descents, each by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.attacks.inversion.config import InversionConfig
from primia_flwr.attacks.inversion.descent import (
    LAST_VARIATION,
    Observation,
    SpectralDescent,
    depth_weights,
    frequency_scale,
)
from primia_flwr.attacks.inversion.gradients import GradientOf
from primia_flwr.attacks.inversion.surrogate import SwitchedReLU, replace_rectifiers
from primia_flwr.training.normalisation import Normalisation

UNIT = Normalisation((0.5,), (0.25,))


def test_a_switched_rectifier_is_relu_up_to_the_first_derivative() -> None:
    x = torch.tensor([-2.0, -0.1, 0.0, 0.1, 3.0], requires_grad=True)
    for module in (nn.ReLU(), SwitchedReLU()):
        y = module(x)
        assert y.tolist() == pytest.approx([0, 0, 0, 0.1, 3])
        (slope,) = torch.autograd.grad((y * torch.arange(1.0, 6)).sum(), x)
        assert slope.tolist() == [0, 0, 0, 4, 5]


def test_its_second_derivative_is_a_logistic_steps() -> None:
    x = torch.tensor([0.0, 1.0, -1.0], requires_grad=True)
    (slope,) = torch.autograd.grad(SwitchedReLU()(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    s = 1 / (1 + math.exp(-1))
    assert second.tolist() == pytest.approx([0.25, s * (1 - s), s * (1 - s)])
    (slope,) = torch.autograd.grad(nn.ReLU()(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x, allow_unused=True)
    assert second is None or second.tolist() == [0, 0, 0], "of ReLU itself"


def test_every_rectifier_is_replaced_and_the_gradient_stays() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
    model = nn.Sequential(inner, nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    images, labels = torch.randn(2, 1, 6, 6), torch.tensor([0, 1])
    names = ["0.0.weight", "4.weight"]
    plain = GradientOf(model, names)(images, labels)
    seeing = GradientOf(model, names, sees_switches=True)(images, labels)
    for a, b in zip(plain, seeing, strict=True):
        assert torch.allclose(a, b)
    replace_rectifiers(model)
    assert not [m for m in model.modules() if isinstance(m, nn.ReLU)]


def test_the_last_layers_count_first_and_all_alike_later() -> None:
    start, end = depth_weights(20, 0.0), depth_weights(20, 1.0)
    assert float(start.sum()) == pytest.approx(1)
    assert float(start[-4:].sum()) > 0.9
    assert end.tolist() == pytest.approx([1 / 20] * 20, rel=0.02)
    assert depth_weights(20, 0.6).tolist() == pytest.approx(end.tolist())
    assert depth_weights(1, 0.0).tolist() == [1]


def test_coarse_coefficients_are_larger() -> None:
    scale = frequency_scale(8, 8)
    assert scale.shape == (8, 5)
    # frequencies 1/8 and 2/8 along a row: a factor of 2^1.3; the mean counts as the lowest
    assert float(scale[0, 1] / scale[0, 2]) == pytest.approx(2**1.3)
    assert float(scale[0, 0]) == pytest.approx(float(scale[0, 1]))
    assert float(scale.square().mean()) == pytest.approx(1)


def _descent(model: nn.Module, names: list[str], image: Tensor) -> SpectralDescent:
    gradient_of = GradientOf(model, names, sees_switches=True)
    label = torch.tensor([1])
    gradient = tuple(g.detach() for g in gradient_of(UNIT.apply(image), label))
    cfg = InversionConfig(iterations=10, total_variation=2.0)
    generator = torch.Generator().manual_seed(0)
    return SpectralDescent(
        gradient_of, Observation(gradient, label), (1, 16, 16), UNIT, cfg, generator
    )


def test_the_total_variation_falls_to_its_last_share() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 2))
    descent = _descent(model, ["0.weight"], torch.rand(1, 1, 16, 16))
    assert descent.smoothness() == pytest.approx(2)
    for _ in range(10):
        descent.step()
    assert descent.smoothness() == pytest.approx(2 * LAST_VARIATION)


def test_late_in_the_search_pale_images_get_an_average_contrast() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 2))
    descent = _descent(model, ["0.weight"], torch.rand(1, 1, 16, 16))

    def size() -> float:
        return float(descent.made().detach().square().mean().sqrt())

    with torch.no_grad():
        descent.unknown.mul_(10)
    for _ in range(6):
        descent.step()
    assert size() < 0.5
    descent.step()
    assert size() == pytest.approx(1, abs=0.25), "a root mean square of 1, less what is cut off"
