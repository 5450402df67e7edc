"""ReLU6 and `same` padding in fixed point: exact, and in one comparison step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.bounds import measure, needed_bits
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.lowering.rehearsal import Rehearsal
from primia_flwr.inference.plan import Difference, Fork, Pad, Relu
from primia_flwr.models.layers.same_padding import PadSame
from primia_flwr.models.registry import build_model
from tests.inference.memory_link import classify
from tests.inference.protocol.test_online import Identity

UNIT = 2.0**-ring.ACTIVATION_BITS
VALUES = torch.tensor([[-7.0, -UNIT, 0.0, UNIT, 3.0, 6 - UNIT, 6.0, 6 + UNIT, 100.0]])


def rehearsed(net: nn.Module, images: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return Rehearsal(lower(net, tuple(images.shape)), generator=generator).classify(images)


def test_relu6_by_hand() -> None:
    net = nn.Sequential(nn.ReLU6(), Identity(9))
    expected = torch.tensor([[0, 0, 0, UNIT, 3, 6 - UNIT, 6, 6, 6]])
    assert torch.equal(rehearsed(net, VALUES), expected.double())
    scores, *_ = classify(lower(net, (1, 9)), VALUES)
    assert (scores - expected).abs().max() <= UNIT  # the last layer rounds


def test_both_of_its_comparisons_are_one_step() -> None:
    plan = lower(nn.Sequential(nn.ReLU6(), Identity(9)), (2, 9)).plan
    kinds = [type(step) for step in plan.steps]
    assert kinds[:3] == [Fork, Relu, Difference]
    assert [step.shape for step in plan.comparisons] == [(4, 9)]
    assert plan.flights == 4  # as with a ReLU


def test_the_ring_holds_what_six_less_is() -> None:
    """-60 is compared, and -66: the latter needs a bit more, at 4 spare bits."""
    net = nn.Sequential(nn.ReLU6(), Identity(1)).eval()
    largest = measure(net, [torch.tensor([[-60.0]])])
    assert largest == [60.0]
    # 60 * 2^17 < 2^23 = 2^(24-1), but 66 * 2^17 > 2^23.
    assert needed_bits(largest, lower(net, (1, 1)).plan) == [25]
    plain = nn.Sequential(nn.ReLU(), Identity(1))
    assert needed_bits(largest, lower(plain, (1, 1)).plan) == [24]


@pytest.mark.parametrize(("side", "kernel", "cells"), [(6, 3, (0, 1, 0, 1)), (7, 5, (2, 2, 2, 2))])
def test_padding_is_local_and_right(side: int, kernel: int, cells: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(2, 2, kernel, 2, groups=2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-2, 3, layer.weight.shape, generator=generator))
    images = torch.randint(-9, 10, (1, 2, side, side), generator=generator).float()
    padded = nn.Sequential(PadSame(kernel), layer)
    expected = padded(images).flatten(1)
    net = nn.Sequential(padded, nn.Flatten(), Identity(expected.shape[1]))
    plan = lower(net, tuple(images.shape)).plan
    assert [step.cells for step in plan.steps if isinstance(step, Pad)] == [cells]
    scores, *_ = classify(lower(net, tuple(images.shape)), images)
    assert (scores - expected).abs().max() <= 2 * UNIT


def test_efficientnet_lite0_says_the_same() -> None:
    model = build_model(ModelConfig(name="efficientnet_lite0"), outputs=3, channels=1, seed=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 1, 32, 32, generator=generator)
    with torch.no_grad():
        model.train()(torch.rand(16, 1, 32, 32, generator=generator))  # for its statistics
        expected = model.eval()(images)
    assert (rehearsed(model, images) - expected).abs().max() < 0.02
    plan = lower(model, tuple(images.shape)).plan
    assert len(plan.comparisons) == 33  # two in each of 16 blocks but the first, the stem, the top
    assert plan.flights == 68
