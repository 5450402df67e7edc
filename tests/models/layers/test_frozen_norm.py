"""Frozen batch norm: the same outputs, and nothing that is measured on images."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models import build_model
from primia_flwr.models.layers.frozen_norm import freeze_statistics
from primia_flwr.models.layers.scale_shift import ScaleShift


def test_statistics_go_into_the_kernel_by_hand() -> None:
    chain = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0))
    norm = chain[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        chain[0].weight.fill_(6)  # type: ignore[operator, union-attr]
        norm.running_mean.fill_(4)
        norm.running_var.fill_(4)
        norm.weight.fill_(3)
        norm.bias.fill_(1)
    freeze_statistics(chain)
    assert [parameter.item() for parameter in chain.parameters()] == [3, -2, 3, 1]
    assert chain(torch.full((1, 1, 1, 1), 2.0)).item() == 3 * (6 * 2 - 4) / 2 + 1


def trained(name: str) -> dict[str, Tensor]:
    """Return the arrays of a model whose statistics are not those it began with."""
    network = build_model(ModelConfig(name=name), outputs=3, channels=1, seed=0).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network(torch.rand(8, 1, 64, 64, generator=generator))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2, generator=generator)
                module.bias.normal_(generator=generator)
    return network.state_dict()


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "vgg16", "simpleconv", "efficientnet_lite0"]
)
def test_each_model_gives_the_same_and_has_no_statistics(name: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(trained(name), file)
    images = torch.rand(2, 1, 64, 64)
    outputs = []
    for norm in ("batch", "frozen"):
        cfg = ModelConfig(name=name, norm=norm, weights=str(file))
        network = build_model(cfg, outputs=3, channels=1, seed=0).eval()
        outputs.append(network(images))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-4)
    assert not list(network.buffers())
    assert any(isinstance(module, ScaleShift) for module in network.modules())


def test_a_frozen_models_own_file_is_loaded_as_it_is(tmp_path: Path) -> None:
    first, second = tmp_path / "batch.safetensors", tmp_path / "frozen.safetensors"
    save_file(trained("simpleconv"), first)
    states = []
    for file, after in ((first, second), (second, tmp_path / "again.safetensors")):
        cfg = ModelConfig(name="simpleconv", norm="frozen", weights=str(file))
        states.append(build_model(cfg, outputs=3, channels=1, seed=1).state_dict())
        save_file(states[-1], after)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_site_that_gets_the_model_has_the_same_arrays(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(trained("simpleconv"), file)
    cfg = ModelConfig(name="simpleconv", norm="frozen", weights=str(file), trainable="norm")
    built = [
        build_model(cfg, outputs=3, channels=1, first_weights=first) for first in (True, False)
    ]
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in built]
    assert shapes[0] == shapes[1]
    trainable = [{n for n, p in m.named_parameters() if p.requires_grad} for m in built]
    assert trainable[0] == trainable[1]
    assert "features.1.weight" in trainable[0]
    assert "features.0.weight" not in trainable[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"model\.norm=frozen with model\.weights=none; .*model\.weights=imagenet"),
        ({"weights": "w.pth", "weight_standardisation": True}, r"weight_standardisation=true with"),
    ],
)
def test_what_does_not_go_with_it_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(norm="frozen", **values)  # type: ignore[arg-type]
