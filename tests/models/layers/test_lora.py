"""Adapters of low rank: a model that begins as it was, trains little, and is saved plain."""

from pathlib import Path

import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models.card import ModelCard
from primia_flwr.models.frozen_arrays import frozen_of
from primia_flwr.models.layers.lora import Adapted, add_adapters, plain_state
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model, save_model


def _adapted(name: str = "simpleconv", norm: str = "group", **options: object) -> nn.Module:
    cfg = ModelConfig(name=name, norm=norm, trainable="lora", weights="w.pth", **options)  # type: ignore[arg-type]
    return build_model(cfg, outputs=3, channels=1, seed=1, first_weights=False).eval()


def _moved(model: nn.Module) -> nn.Module:
    """Give every adapter something to add."""
    torch.manual_seed(2)
    for layer in model.modules():
        if isinstance(layer, Adapted):
            nn.init.normal_(layer.up.weight, std=0.1)
    return model


def test_an_adapter_adds_alpha_over_rank_times_up_times_down() -> None:
    layer = nn.Linear(2, 2)
    adapted = Adapted(layer, rank=1, alpha=3.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        layer.bias.copy_(torch.tensor([0.5, 0.0]))
        adapted.down.weight.copy_(torch.tensor([[1.0, -1.0]]))
        adapted.up.weight.copy_(torch.tensor([[2.0], [0.0]]))
        found = adapted(torch.tensor([[5.0, 1.0]]))
    assert found.tolist() == [[7.5 + 3 * 2 * 4, 19.0]]  # 1*5 + 2*1 + 0.5; down gives 5 - 1
    assert adapted.merged_weight().tolist() == [[1 + 6, 2 - 6], [3, 4]]


@pytest.mark.parametrize("name", ["simpleconv", "resnet18", "efficientnet_lite0"])
def test_a_model_begins_as_it_was_and_is_saved_as_one_plain_model(
    name: str, tmp_path: Path
) -> None:
    model = _adapted(name)
    cfg = ModelConfig(name=name, norm="group", weights="w.pth")
    plain = build_model(cfg, outputs=3, channels=1, seed=1, first_weights=False).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))
        trained = _moved(model)(images)
    assert not torch.allclose(trained, plain(images), atol=1e-3)
    assert plain_state(model).keys() == plain.state_dict().keys()
    own = ModelConfig(name=name, norm="group", trainable="lora", weights="w.pth")
    card = ModelCard(own, ("a", "b", "c"), 1, 64, "pad", (0.5,), (0.2,), "0" * 16, 1, True)
    save_model(tmp_path, model, card)
    loaded, saved = load_model(tmp_path)
    assert saved.model.trainable == "all"
    assert not any(isinstance(layer, Adapted) for layer in loaded.modules())
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), trained, atol=1e-4, rtol=1e-4)


def test_only_the_adapters_and_the_head_are_trained() -> None:
    cfg = ModelConfig("efficientnet_lite0", "frozen", trainable="lora", weights="w.pth")
    model = build_model(cfg, outputs=3, channels=1, seed=1, first_weights=False)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == model.state_dict().keys() - frozen_of(cfg, model)
    assert {"classifier.weight", "classifier.bias"} <= trained
    adapters = {name for name in trained if ".down." in name or ".up." in name}
    assert trained - adapters == {"classifier.weight", "classifier.bias"}
    assert "top.conv.down.weight" in adapters
    assert not any("depthwise" in name for name in adapters)  # grouped
    # the first: 1 x 3 x 3 to 32 has 288 numbers, its adapter of rank 8 has 8 (9 + 32) = 328
    assert "stem.conv.down.weight" not in adapters


def test_the_adapters_are_drawn_from_the_seed() -> None:
    first, second = (_adapted().state_dict()["features.4.down.weight"] for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (8, 32, 3, 3)
    assert float(first.abs().sum()) > 0


def test_standardised_kernels_and_models_without_a_large_layer_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.weight_standardisation=true; an adapter cannot"):
        ModelConfig(norm="none", trainable="lora", weights="w.pth")
    with pytest.raises(ConfigError, match=r"lora with model\.weights=none"):
        ModelConfig(trainable="lora")
    for rank in (0, 1025):
        with pytest.raises(ConfigError, match=r"model\.lora_rank"):
            ModelConfig(lora_rank=rank)
    with pytest.raises(ConfigError, match=r"model\.lora_alpha"):
        ModelConfig(lora_alpha=0.0)
    with pytest.raises(ConfigError, match=r"lora_rank=2: no layer .* expected a lower rank"):
        add_adapters(nn.Sequential(nn.Linear(4, 4)), head="1", rank=2, alpha=1.0)
