"""Likeness of images, their matching, the Fréchet distance, and identification."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from primia_flwr.attacks.inversion.scoring.identification import Gallery, identified
from primia_flwr.attacks.inversion.scoring.measures import (
    frechet_distance,
    likeness,
    matched,
)
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.errors import DataError


def test_mse_and_psnr_by_hand() -> None:
    found = likeness(torch.full((1, 16, 16), 0.6), torch.full((1, 16, 16), 0.5))
    assert found.mse == pytest.approx(0.01)
    assert found.psnr == pytest.approx(20.0)  # 10 log10(1 / 0.01)
    # flat images: SSIM = (2 ab + c1) / (a^2 + b^2 + c1), c1 = 0.01^2
    assert found.ssim == pytest.approx((0.6 + 1e-4) / (0.61 + 1e-4), abs=1e-4)


def test_an_image_is_like_itself() -> None:
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert likeness(image, image).ssim == pytest.approx(1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 12)])
def test_small_or_different_images_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="expected the same, at least 11 x 11"):
        likeness(torch.zeros(shape), torch.zeros(1, 8, 8))


def test_each_original_is_matched_once_at_the_least_total() -> None:
    values = [torch.full((1, 4, 4), v) for v in (0.0, 0.5, 1.0)]
    made = [torch.full((1, 4, 4), v) for v in (0.9, 0.6)]
    assert matched(made, values) == [2, 1]
    with pytest.raises(DataError, match="3 reconstructions of 2 originals"):
        matched(values, made)


class _Mean(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).double()


def test_the_frechet_distance_of_shifted_points_is_the_square_of_the_shift() -> None:
    # one feature; means 0.2 and 0.6 of the same spread: (0.4)^2
    low = [torch.full((1, 1, 1), v) for v in (0.0, 0.4)]
    high = [torch.full((1, 1, 1), v) for v in (0.4, 0.8)]
    assert frechet_distance(high, low, _Mean()) == pytest.approx(0.16, abs=2e-3)
    assert frechet_distance(low, low, _Mean()) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(low[:1], low, _Mean()) is None


def _gallery() -> Gallery:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 1, 8, 8), generator=generator, dtype=torch.uint8)
    patients = ("ann", "ann", "ben", "cem")
    labels = torch.zeros(4, dtype=torch.int64)
    return Gallery(LabelledImages(images, labels, tuple("abcd"), patients, ("x", "y")), _Mean())


@pytest.mark.parametrize("space", ["pixels", "features"])
def test_a_noisy_copy_leads_to_its_patient(space: str) -> None:
    gallery = _gallery()
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 1, 8, 8), generator=generator, dtype=torch.uint8)[2] / 255
    assert gallery.nearest(image * 0.8 + 0.1, space) == "ben"


def test_hits_are_compared_with_guessing() -> None:
    found = identified(["ann", "ben"], ["ann", "cem"], _gallery())
    # shares 2/4 and 1/4: mean 3/8; P(at least 1 of 2) = 1 - (5/8)^2
    assert (found.hits, found.n, found.chance) == (1, 2, 0.375)
    assert found.p_value == pytest.approx(1 - 25 / 64)


def test_strangers_are_other_patients_and_a_seed_draws_them_again() -> None:
    gallery = _gallery()
    found = gallery.strangers(["ann"], 5, seed=1)
    assert len(found) == 2, "all there are"
    again = gallery.strangers(["ann"], 5, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    everyone = gallery.strangers([], 4, seed=0)
    own = [image for image in everyone if not any(torch.equal(image, f) for f in found)]
    assert len(own) == 2
    assert gallery.strangers(["ann", "ben", "cem"], 3, seed=0) == []
