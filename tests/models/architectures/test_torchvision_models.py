"""MobileNetV2 and DenseNet-121: numbers, names and sizes of torchvision; clipped and lowered."""

import re

import pytest
import torch
from torch import nn

from primia_flwr.compat import torchvision
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.config.rows import MODELS
from primia_flwr.errors import ConfigError
from primia_flwr.inference.lowering.folding import folded
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.models import build_model
from primia_flwr.models.weights import load_first_weights
from primia_flwr.privacy.clipping.admission import check_model

NAMES = ("mobilenet_v2", "densenet121")


def model(name: str, *, outputs: int = 3, channels: int = 1, **values: str) -> nn.Module:
    cfg = ModelConfig(name=name, **values)  # type: ignore[arg-type]
    return build_model(cfg, outputs=outputs, channels=channels, seed=0, first_weights=False).eval()


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_what_torchvisions_gives_with_its_weights(name: str) -> None:
    theirs = torchvision.models.get_model(name).eval()
    own, images = model(name, outputs=1000, channels=3), torch.rand(2, 3, 64, 64)
    row = MODELS[name]
    # In its file DenseNet's layers are called norm.1; there is no network here to fetch it by.
    filed = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): value
        for key, value in theirs.state_dict().items()
    }
    renamed = {row.own_name(key): value for key, value in filed.items()}
    load_first_weights(own, "imagenet", renamed, stem=row.stem, head=row.head)
    with torch.no_grad():
        torch.testing.assert_close(own(images), theirs(images))


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_what_is_explained(name: str) -> None:
    row, shapes, network = MODELS[name], {}, model(name)
    for layer in (row.explained, *(finer for finer, _ in row.finer)):
        network.get_submodule(layer).register_forward_hook(
            lambda _, __, out, layer=layer: shapes.update({layer: out.shape[-1]})
        )
    network(torch.rand(1, 1, 112, 112))
    expected = {row.explained: row.map_side(112)} | {key: side(112) for key, side in row.finer}
    assert shapes == expected
    assert network(torch.rand(1, 1, row.min_image_size, row.min_image_size)).shape == (1, 3)


@pytest.mark.parametrize("name", NAMES)
def test_with_group_norm_it_can_be_clipped(name: str) -> None:
    check_model(model(name, norm="group"))
    with pytest.raises(ConfigError, match="normalises each image by the others"):
        check_model(model(name))


@pytest.mark.parametrize("name", NAMES)
def test_it_has_an_encrypted_form(name: str) -> None:
    network = model(name)
    for layer in network.modules():  # as after a training
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        found, expected = folded(network)(images), network(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    lowered = lower(network, (1, 1, 32, 32))
    assert len(lowered.weights) > 50


def test_a_norm_before_its_convolution_cannot_be_frozen() -> None:
    with pytest.raises(ConfigError, match=r"model\.norm=frozen with .*expected batch or group"):
        ModelConfig(name="densenet121", norm="frozen", weights="w.pth")
