"""Scattering: numbers that follow from its definition."""

from __future__ import annotations

import math

import pytest
import torch

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models import build_model
from primia_flwr.models.architectures.scattering import (
    DIRECTIONS,
    GRID,
    MAPS,
    SCALES,
    Scattering,
    ScatteringNet,
    _lowpass,
    _wavelets,
)

CPU = torch.device("cpu")
FIRST = slice(1, 1 + SCALES * DIRECTIONS)


def wave(frequency: float, angle: float, side: int = 64) -> torch.Tensor:
    """Return a plane wave, (1, 1, side, side), of so many radians a pixel."""
    line = torch.arange(side, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.cos(frequency * (x * math.cos(angle) + y * math.sin(angle)))[None, None]


def test_two_scales_and_eight_directions_make_81_maps() -> None:
    assert MAPS == 1 + 2 * 8 + 8 * 8
    assert Scattering()(torch.rand(2, 3, 32, 32)).shape == (2, 3 * 81, 8, 8)
    assert Scattering()(torch.rand(1, 1, 50, 64)).shape == (1, 81, 13, 16)


@pytest.mark.parametrize("scale", range(SCALES))
def test_wavelets_have_mean_0_and_the_low_pass_adds_up_to_1(scale: int) -> None:
    kernels = _wavelets(scale, CPU)
    assert kernels.shape[:2] == (2 * DIRECTIONS, 1)
    torch.testing.assert_close(kernels.sum(dim=(1, 2, 3)), torch.zeros(16), atol=1e-6, rtol=0)
    assert float(_lowpass(CPU).sum()) == pytest.approx(1, abs=1e-6)


def test_a_grey_image_has_its_grey_and_nothing_else() -> None:
    found = Scattering()(torch.full((1, 1, 32, 32), 0.7))
    torch.testing.assert_close(found[:, :1], torch.full((1, 1, 8, 8), 0.7))
    assert found[:, 1:].abs().max() < 1e-6


@pytest.mark.parametrize("scale", range(SCALES))
@pytest.mark.parametrize("direction", [0, 3, 6])
def test_a_wave_is_seen_by_the_wavelet_of_its_scale_and_direction(
    scale: int, direction: int
) -> None:
    image = wave(0.75 * math.pi / 2**scale, math.pi * direction / DIRECTIONS)
    inner = Scattering()(image)[0, FIRST, 4:-4, 4:-4].mean(dim=(1, 2))
    assert int(inner.argmax()) == scale * DIRECTIONS + direction


def test_twice_the_contrast_is_twice_the_scattering() -> None:
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Scattering()(2 * image), 2 * Scattering()(image))


def test_a_shift_by_four_pixels_shifts_the_maps_by_one_cell() -> None:
    image = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    here, there = Scattering()(image), Scattering()(image.roll(4, dims=3))
    torch.testing.assert_close(there[..., 10:14, 11:15], here[..., 10:14, 10:14])


def test_the_front_end_has_no_state_and_is_the_same_for_every_seed() -> None:
    models = [
        build_model(ModelConfig(name="scattering"), outputs=3, channels=1, seed=seed)
        for seed in (1, 2)
    ]
    assert set(models[0].state_dict()) == {"classifier.weight", "classifier.bias"}
    image = torch.rand(1, 1, 32, 32)
    first, second = (model.get_submodule("front")(image) for model in models)
    assert torch.equal(first, second)


def test_features_do_not_depend_on_the_other_images() -> None:
    net, images = ScatteringNet(3, 1), torch.rand(5, 1, 32, 32)
    torch.testing.assert_close(net.front(images)[2:3], net.front(images[2:3]))


def test_larger_images_have_as_many_features() -> None:
    net = ScatteringNet(3, 1)
    for side in (32, 48, 112):
        assert net.front(torch.rand(1, 1, side, side)).shape == (1, MAPS * GRID**2)


def test_filters_that_inference_made_serve_training_too() -> None:
    _wavelets.cache_clear()
    _lowpass.cache_clear()
    with torch.inference_mode():
        Scattering()(torch.rand(1, 1, 32, 32))
    image = torch.rand(1, 1, 32, 32, requires_grad=True)
    Scattering()(image).sum().backward()
    assert image.grad is not None
