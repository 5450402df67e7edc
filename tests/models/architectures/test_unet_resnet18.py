"""A U-Net on a ResNet-18: what it loads, and that each output sees its pixel and around it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model


def unet(**changes: object) -> torch.nn.Module:
    cfg = ModelConfig(name="unet_resnet18", norm_groups=8, **changes)  # type: ignore[arg-type]
    return build_model(cfg, outputs=3, channels=1, seed=0)


def test_a_resnet_brings_the_way_down_and_the_way_up_starts_fresh(tmp_path: Path) -> None:
    resnet = build_model(ModelConfig(name="resnet18"), outputs=5, channels=3, seed=7)
    save_file(resnet.state_dict(), tmp_path / "resnet.safetensors")
    model, fresh = unet(weights=str(tmp_path / "resnet.safetensors")), unet()
    theirs, found = resnet.state_dict(), model.state_dict()
    for name, value in theirs.items():
        if not name.startswith(("fc.", "conv1.")):
            assert torch.equal(found[f"down.{name}"], value), name
    # Three colours become one: a grey image gives what it gave repeated in each.
    assert torch.equal(found["down.conv1.weight"], theirs["conv1.weight"].sum(1, keepdim=True))
    up = {name for name in found if name.startswith("head.")}
    assert up
    assert all(torch.equal(found[name], fresh.state_dict()[name]) for name in up)


def test_its_own_weights_fit_too(tmp_path: Path) -> None:
    own = unet().state_dict()
    save_file({name: value + 1 for name, value in own.items()}, tmp_path / "own.safetensors")
    found = unet(weights=str(tmp_path / "own.safetensors")).state_dict()
    assert all(torch.equal(found[name], value + 1) for name, value in own.items())


def test_another_network_is_refused(tmp_path: Path) -> None:
    other = build_model(ModelConfig(name="resnet34"), outputs=3, channels=1, seed=0)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="expected the weights of the same model"):
        unet(weights=str(tmp_path / "other.safetensors"))


def test_the_head_is_the_way_up(tmp_path: Path) -> None:
    resnet = build_model(ModelConfig(name="resnet18"), outputs=5, channels=1, seed=7)
    save_file(resnet.state_dict(), tmp_path / "resnet.safetensors")
    model = unet(trainable="head", weights=str(tmp_path / "resnet.safetensors"))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    # five blocks of two convolutions and two norms with two numbers each, and the last convolution
    assert len(trained) == 5 * (2 + 4) + 2
    assert all(name.startswith("head.") for name in trained)


def test_a_pixel_sees_what_lies_around_it_at_every_level() -> None:
    model = unet(norm="group")
    images = torch.randn(1, 1, 64, 64, requires_grad=True)
    model(images)[0, 1, 32, 32].backward()
    assert images.grad is not None
    assert images.grad[0, 0, 32, :].abs().min() > 0
    seen = []
    for block in model.head.blocks:
        block[0].register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape[1:]))
    model(torch.randn(1, 1, 64, 96))
    assert seen == [(768, 4, 6), (384, 8, 12), (192, 16, 24), (128, 32, 48), (32, 64, 96)]
