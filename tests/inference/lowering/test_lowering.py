from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ConfigError
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.plan import (
    Add,
    Average,
    Flatten,
    Linear,
    MaxLevel,
    Open,
    Relu,
    Reveal,
    num_compared,
)
from primia_flwr.models.registry import build_model


def model(name: str = "resnet18", **options: str) -> nn.Module:
    cfg = ModelConfig(name=name, **options)  # type: ignore[arg-type]
    return build_model(cfg, outputs=3, channels=1, seed=0)


def test_resnet18_takes_44_one_way_delays() -> None:
    plan = lower(model(), (1, 1, 64, 64)).plan
    # 17 ReLUs; the stem's 3 x 3 max-pool: 2 levels along each axis.
    assert len(plan.comparisons) == 17 + 4
    assert plan.flights == 2 + 2 * 21
    # 20 convolutions and one linear layer; three shortcuts read what the block's first one reads.
    assert len(plan.linears) == 21
    assert len(plan.openings) == 18


def test_numbers_compared_in_resnet18_at_64_pixels() -> None:
    plan = lower(model(), (1, 1, 64, 64)).plan
    relus = [num_compared(s) for s in plan.comparisons if isinstance(s, Relu)]
    # After the pooling 64 x 16 x 16, and four of each stage.
    assert relus == [16_384] * 5 + [8_192] * 4 + [4_096] * 4 + [2_048] * 4
    maxima = [num_compared(s) for s in plan.comparisons if isinstance(s, MaxLevel)]
    # 32 columns to 16: 16 pairs, then 15 thirds (the first window begins in the padding).
    assert maxima == [64 * 32 * 16, 64 * 32 * 15, 64 * 16 * 16, 64 * 15 * 16]


def test_the_pooling_comes_before_the_relu() -> None:
    kinds = [type(step) for step in lower(model("simpleconv"), (1, 1, 32, 32)).plan.steps]
    block = [Open, Linear, MaxLevel, MaxLevel, Relu]
    assert kinds == [*block * 4, Average, Flatten, Open, Linear, Reveal]


def test_a_residual_is_added() -> None:
    plan = lower(model(), (1, 1, 64, 64)).plan
    assert sum(isinstance(step, Add) for step in plan.steps) == 8


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "vgg16", "simpleconv"])
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_every_model_of_the_table_has_a_plan(name: str, pool: str) -> None:
    plan = lower(model(name, pool=pool), (2, 1, 64, 64)).plan
    assert plan.steps[-1] == Reveal(plan.steps[-1].source, (2, 3))  # type: ignore[union-attr]
    assert plan.digest == lower(model(name, pool=pool), (2, 1, 64, 64)).plan.digest
    assert plan.digest != lower(model(name, pool=pool), (1, 1, 64, 64)).plan.digest


def test_batch_norm_is_folded_into_the_weights() -> None:
    block = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)).eval()
    with torch.no_grad():
        block[0].weight.fill_(3.0)  # type: ignore[operator, union-attr]
        block[1].running_mean.fill_(5.0)  # type: ignore[operator, union-attr]
        block[1].running_var.fill_(4.0)  # type: ignore[operator, union-attr]
        block[1].weight.fill_(8.0)  # type: ignore[operator, union-attr]
        block[1].bias.fill_(1.0)  # type: ignore[operator, union-attr]
    (weights,) = lower(block, (1, 1, 2, 2)).weights
    # (3 x - 5) / 2 * 8 + 1 = 12 x - 19
    assert weights.weight.flatten().tolist() == [12 * 2**16]
    assert weights.bias.tolist() == [-19 * 2 ** (16 + 13)]


def test_group_norm_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"model\.norm=group .*square root.*model\.norm=none"):
        lower(model(norm="group"), (1, 1, 64, 64))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Sigmoid(), "Sigmoid"),
        (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode=True"),
        (nn.Conv2d(1, 1, 3, padding="same"), "padding=same"),
        (nn.Flatten(2), "flattens"),
    ],
)
def test_a_layer_outside_the_table_is_refused(layer: nn.Module, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lower(nn.Sequential(layer), (1, 1, 8, 8))


@pytest.mark.parametrize("bits", [7, 65])
def test_a_ring_out_of_range_is_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"compare_bits={bits}"):
        lower(model("simpleconv"), (1, 1, 32, 32), compare_bits=bits)


def test_a_public_front_end_is_left_to_who_has_the_image() -> None:
    network = model("scattering")
    lowered = lower(network, (2, 1, 32, 32))
    assert lowered.plan.input_shape == (2, 81 * 64)
    assert [type(step) for step in lowered.plan.steps] == [Open, Linear, Reveal]
    assert lowered.plan.compare_bits == ()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(lowered.graph(lowered.front(images)), network(images))


def test_other_models_have_no_front_end() -> None:
    images = torch.rand(1, 1, 32, 32)
    assert torch.equal(lower(model("simpleconv"), (1, 1, 32, 32)).front(images), images)


def test_threads_lower_at_once() -> None:
    network = model("scattering")
    expected = lower(network, (1, 1, 32, 32)).plan

    def found(_: int) -> object:
        return lower(network, (1, 1, 32, 32)).plan

    with ThreadPoolExecutor(4) as pool:  # torch.fx patches every module's call while it traces
        assert list(pool.map(found, range(24))) == [expected] * 24
