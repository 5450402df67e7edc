"""Networks without normalisation keep the variance of what passes through them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.models.card import ModelCard
from primia_flwr.models.layers.norm_free import ALPHA, GAINS, scale_chain, scale_kernel
from primia_flwr.models.layers.scale_shift import ScaleShift
from primia_flwr.models.layers.weight_standardisation import WSConv2d
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import load_model, save_model


def model(name: str) -> nn.Module:
    cfg = ModelConfig(name=name, norm="none")
    return build_model(cfg, outputs=3, channels=1, seed=0).eval()


@pytest.mark.parametrize("count", [1, 4, 9])
def test_gains_are_what_a_rectified_maximum_leaves(count: int) -> None:
    def above(x: float) -> float:  # P(max(0, z_1, …, z_n) > x)
        return float(1 - stats.norm.cdf(x) ** count)

    mean = integrate.quad(above, 0, 12)[0]
    square = integrate.quad(lambda x: 2 * x * above(x), 0, 12)[0]
    assert GAINS[count] == pytest.approx((square - mean**2) ** -0.5, rel=1e-9)


def test_the_gain_of_a_rectifier_by_hand() -> None:
    # E max(0, z)^2 = 1/2, E max(0, z) = 1 / sqrt(2 pi).
    assert GAINS[1] == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)))


def test_a_kernel_is_scaled_by_its_inputs() -> None:
    layer = WSConv2d(4, 2, 3, bias=False)
    scale_kernel(layer, pooled=0, factor=0.5)
    assert layer.kernel_scale == pytest.approx(0.5 / 6)  # 36 inputs
    used = layer.standardised().used
    assert used.square().sum(dim=(1, 2, 3)).tolist() == pytest.approx([0.25, 0.25], rel=1e-3)
    assert used.sum(dim=(1, 2, 3)).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_chain_counts_what_was_pooled() -> None:
    chain = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 1, 1),
    )  # fmt: skip
    scale_chain(chain)
    scales = [layer.kernel_scale for layer in chain if isinstance(layer, WSConv2d)]
    assert scales == pytest.approx([1 / 3, GAINS[1] / 2, GAINS[4] / 2])


def variances(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Return the variance of what each rectifier gets, in the order of its use."""
    found: dict[str, float] = {}

    def keep(name: str, inputs: tuple[Tensor, ...]) -> None:
        found[f"{name} {len(found)}"] = float(inputs[0].var())

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: keep(name, inputs))
        for name, module in network.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    ("name", "rectifiers"),
    [("simpleconv", 4), ("vgg16", 13), ("resnet18", 17), ("resnet34", 33), ("resnet50", 49)],
)
def test_variance_stays_within_a_factor_of_two_through_the_depth(
    name: str, rectifiers: int
) -> None:
    """White noise of variance 1; padding with zeros takes a little at each layer."""
    images = torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(1))
    found = variances(model(name), images)
    assert len(found) == rectifiers
    assert all(0.5 < variance < 2 for variance in found.values()), found


def test_a_branch_adds_alpha_squared() -> None:
    """Along a stage the variance is 1 + k alpha^2, and a new stage begins at 1."""
    network = model("resnet34")
    found: dict[str, float] = {}
    for stage in (1, 2):
        for number, block in enumerate(network.get_submodule(f"layer{stage}")):  # type: ignore[arg-type]
            block.register_forward_hook(
                lambda _, __, out, key=(stage, number): found.update({key: float(out.var())})
            )
    with torch.no_grad():
        network(torch.randn(2, 1, 160, 160, generator=torch.Generator().manual_seed(1)))
    for stage, blocks in ((1, 3), (2, 4)):
        rise = (found[stage, blocks - 1] - found[stage, 0]) / (blocks - 1)
        assert rise == pytest.approx(ALPHA**2, rel=0.3)  # padding takes a part
        assert found[stage, 0] == pytest.approx(1 + ALPHA**2, rel=0.1)


def test_without_the_constants_it_does_not_stay() -> None:
    """The test above would notice: a rectifier alone takes two thirds at each layer."""
    network = model("vgg16")
    for layer in network.modules():
        if isinstance(layer, WSConv2d):
            layer.kernel_scale = 1 / math.sqrt(layer.weight[0].numel())
    images = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    assert min(variances(network, images).values()) < 0.01


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "vgg16", "simpleconv"])
def test_there_is_no_norm_and_no_state_but_parameters(name: str) -> None:
    network = model(name)
    kinds = {
        type(m) for m in network.modules() if next(m.parameters(recurse=False), None) is not None
    }
    assert kinds == {WSConv2d, ScaleShift, nn.Linear}
    assert not list(network.buffers())


def test_parameters_by_hand() -> None:
    # ResNet-18 of one channel has 11,170,243 with batch norm (tests/models/test_registry.py), and
    # here one shortcut more: 64 x 64 and two numbers a channel.
    counts = {
        name: sum(p.numel() for p in model(name).parameters())
        for name in ("resnet18", "resnet50", "simpleconv")
    }
    assert counts["resnet18"] == 11_689_512 - 513_000 - 2 * 64 * 49 + 1_539 + 64 * 64 + 128
    assert counts["resnet50"] == 25_557_032 - 2_049_000 - 2 * 64 * 49 + 2048 * 3 + 3
    assert counts["simpleconv"] == 9 * 43_040 + 960 + 771


def test_scale_and_shift_by_hand() -> None:
    layer = ScaleShift(2)
    assert torch.equal(layer(torch.ones(1, 2, 1, 1)), torch.ones(1, 2, 1, 1))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, 0.0]))
        layer.bias.copy_(torch.tensor([-1.0, 5.0]))
    assert layer(torch.full((1, 2, 1, 1), 3.0)).flatten().tolist() == [5.0, 5.0]
    assert layer(torch.ones(1, 2, 1, 1, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert str(layer) == "ScaleShift(2)"


def test_it_is_saved_and_loaded_and_its_weights_begin_another(tmp_path: Path) -> None:
    cfg = ModelConfig(name="resnet18", norm="none")
    first = model("resnet18")
    card = ModelCard(
        model=cfg, classes=("a", "b", "c"), channels=1, image_size=32, resize="squash",
        mean=(0.5,), std=(0.25,), config_hash="0" * 16, round=1, synthetic=True,
    )  # fmt: skip
    save_model(tmp_path, first, card)
    loaded, found = load_model(tmp_path)
    assert found == card
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), first(images))
    weights = str(tmp_path / "model.safetensors")
    for trainable in ("norm", "head"):
        begun = replace(cfg, weights=weights, trainable=trainable)
        network = build_model(begun, outputs=3, channels=1, seed=5).eval()
        with torch.no_grad():
            assert torch.equal(network(images), first(images))
        trained = {n for n, p in network.named_parameters() if p.requires_grad}
        scales = {n for n in trained if "bn" in n or "downsample.1" in n}
        assert trained - scales == {"fc.weight", "fc.bias"}
        # 17 layers outside the shortcuts, and four of those; a scale and a shift each.
        assert len(scales) == (2 * 21 if trainable == "norm" else 0)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_weights_of_a_network_with_a_norm_are_refused(norm: str, tmp_path: Path) -> None:
    other = build_model(ModelConfig(norm=norm), outputs=3, channels=1, seed=0)
    torch.save(other.state_dict(), tmp_path / "other.pth")
    cfg = ModelConfig(norm="none", weights=str(tmp_path / "other.pth"))
    with pytest.raises(ConfigError, match=r"same model\.name and model\.norm"):
        build_model(cfg, outputs=3, channels=1, seed=0)
