"""A generator learns of patients through clipped, noisy sums alone."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from primia_flwr.data.dataset import LabelledImages
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.mechanisms import dp_step, noise, units
from primia_flwr.privacy.mechanisms.noise import FLOAT_ALLOWANCE
from primia_flwr.privacy.mechanisms.randomness import keyed_generator
from primia_flwr.synthesis.adversarial import (
    _Game,
    _verdict_loss,
    build_generator,
    draw_images,
    train_generator,
)
from primia_flwr.synthesis.config import GeneratorConfig

SMALL = GeneratorConfig(latent=4, width=8, discriminator_width=8, discriminator_steps=2)
CPU = torch.device("cpu")
STEPS = SampledGaussian(noise_multiplier=1.0, sampling_rate=1.0, steps=4)


def images(pixels: Tensor, patients: tuple[str, ...]) -> LabelledImages:
    count = len(pixels)
    digests = tuple(hashlib.sha256(p.numpy().tobytes()).hexdigest() for p in pixels)
    labels = torch.arange(count) % 2
    files = tuple(map(str, range(count)))
    return LabelledImages(pixels, labels, files, patients, ("a", "b"), digests=digests)


def noise_images(count: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)


PATIENTS = ("p", "q", "r", "s", "t", "u")


def game(found: LabelledImages, event: SampledGaussian = STEPS, clip_norm: float = 1.0) -> _Game:
    torch.manual_seed(0)
    return _Game(found, SMALL, event, unit="patient", clip_norm=clip_norm, device=CPU)


def gradient(one: _Game) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in one._engine.parameters if p.grad is not None])


def test_a_verdict_costs_what_one_gets_by_hand() -> None:
    verdicts = torch.tensor([[2.0, 0.0], [0.0, 3.0], [2.0, 0.0]])
    losses = _verdict_loss(verdicts, torch.tensor([0, 1, -1]))  # real 0, real 1, generated 0
    expected = [math.log1p(math.exp(-2)), math.log1p(math.exp(-3)), math.log1p(math.exp(2))]
    assert losses.tolist() == pytest.approx(expected)


@pytest.fixture
def _known_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise and draws each time, as no configuration can have it."""
    for module in (dp_step, units):
        if hasattr(module, "fresh_generator"):
            monkeypatch.setattr(module, "fresh_generator", lambda: keyed_generator(b"\1" * 16))
    drawn = noise.rounded_gaussian
    monkeypatch.setattr(
        dp_step,
        "rounded_gaussian",
        lambda size, *, sigma, generator: drawn(
            size, sigma=sigma, generator=keyed_generator(b"\2" * 16)
        ),
    )


@pytest.mark.usefixtures("_known_noise")
@pytest.mark.parametrize("other", ["black", "white", "noise"])
def test_a_patient_moves_a_step_by_no_more_than_clipping_lets(other: str) -> None:
    """Replacing one is taking one out and putting one in: twice the clip, over a batch of 6."""
    clip, pixels = 1e-3, noise_images()
    changed = pixels.clone()
    black, white = (torch.full((1, 16, 16), level, dtype=torch.uint8) for level in (0, 255))
    made = {"black": black, "white": white, "noise": noise_images(1, seed=9)[0]}
    changed[0] = made[other]
    found = []
    for each in (pixels, changed):
        one = game(images(each, PATIENTS), clip_norm=clip)
        one.discriminate()
        found.append(gradient(one))
    entries = len(found[0])
    rounding = 2 * math.ldexp(clip, -20) * math.sqrt(entries) / 6
    most = 2 * clip * (1 + FLOAT_ALLOWANCE) / 6 + rounding
    moved = float((found[0].double() - found[1].double()).norm())
    assert 0 < moved <= most


@pytest.mark.usefixtures("_known_noise")
def test_a_patient_of_many_images_moves_no_more_than_one_of_a_single_one() -> None:
    """All of six images are one patient's: the sum holds one image, clipped."""
    clip = 1e-3
    quiet = SampledGaussian(noise_multiplier=0.1, sampling_rate=1.0, steps=4)
    one = game(images(noise_images(), ("p",) * 6), quiet, clip_norm=clip)
    assert len(one._units) == 1
    assert [len(rows) for rows, _ in one._drawn()] == [1]


def test_no_image_reaches_the_generator() -> None:
    """Its step is the same whatever the images are, as long as the discriminator is."""
    found = []
    for seed in (1, 2):
        one = game(images(noise_images(seed=seed), PATIENTS))
        torch.manual_seed(3)
        one.generate()
        found.append(torch.cat([p.detach().reshape(-1) for p in one.generator.parameters()]))
    assert torch.equal(*found)


def test_the_seed_of_the_experiment_seeds_no_noise() -> None:
    def trained() -> dict[str, Tensor]:
        return train_generator(
            images(noise_images(), PATIENTS),
            SMALL,
            STEPS,
            unit="patient",
            clip_norm=1.0,
            seed=1,
            device=CPU,
        )

    first, second = trained(), trained()
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_the_generator_moves_once_in_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    monkeypatch.setattr(_Game, "discriminate", lambda self: said.append("d"))
    monkeypatch.setattr(_Game, "generate", lambda self: said.append("g"))
    seen = list[int]()
    train_generator(
        images(noise_images(), PATIENTS),
        SMALL,
        SampledGaussian(noise_multiplier=1.0, sampling_rate=0.5, steps=5),
        unit="patient",
        clip_norm=1.0,
        seed=1,
        device=CPU,
        on_step=seen.append,
    )
    assert "".join(said) == "ddgddgd"
    assert seen == [1, 2, 3, 4, 5]


def test_images_are_drawn_by_class_and_alike_for_a_seed() -> None:
    net = build_generator(SMALL, classes=2, size=16)
    first, again, other = (list(draw_images(net, [3, 130], seed=s)) for s in (1, 1, 2))
    assert [label for label, _ in first] == [0] * 3 + [1] * 130
    assert {(p.shape, p.dtype) for _, p in first} == {((16, 16), np.dtype(np.uint8))}
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for (_, a), (_, b) in zip(first, other, strict=True))
    assert list(draw_images(net, [0, 0], seed=1)) == []
