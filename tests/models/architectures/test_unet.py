"""The U-Net's parameters by hand, and that its outputs are those of each pixel."""

import pytest
import torch

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models import build_model

# 3 x 3 kernels of two convolutions a block, twice the norm's scale and shift, the head.
KERNELS = [(1, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128),
           (192, 64), (64, 64), (96, 32), (32, 32), (48, 16), (16, 16)]  # fmt: skip


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_the_number_of_parameters_by_hand(norm):
    model = build_model(ModelConfig(name="unet", norm=norm), outputs=3, channels=1, seed=0)
    wanted = sum(9 * a * b + 2 * b for a, b in KERNELS) + 16 * 3 + 3
    assert sum(p.numel() for p in model.parameters()) == wanted
    images = torch.randn(2, 1, 32, 48)
    assert model(images).shape == (2, 3, 32, 48)


def test_without_a_norm_the_variance_stays_near_one():
    model = build_model(ModelConfig(name="unet", norm="none"), outputs=3, channels=1, seed=0)
    found = []
    for block in [*model.down, *model.up]:
        block[4].register_forward_hook(lambda _m, _i, out: found.append(float(out.var())))
    model(torch.randn(4, 1, 64, 64))
    assert all(0.2 < one < 5 for one in found)


def test_a_pixel_sees_what_lies_around_it():
    model = build_model(ModelConfig(name="unet", norm="group"), outputs=2, channels=1, seed=0)
    images = torch.randn(1, 1, 64, 64, requires_grad=True)
    model(images)[0, 1, 32, 32].backward()
    assert images.grad is not None
    assert images.grad[0, 0, 32 - 20 : 32 + 20, 32].abs().min() > 0
