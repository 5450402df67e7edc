"""Sequences under encryption: frames and features change their places for nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.lowering.rehearsal import Rehearsal
from primia_flwr.inference.overflow.limits import check_plan
from primia_flwr.inference.plan import Flatten, num_compared
from primia_flwr.models.layers.frames import PerFrame, Together
from primia_flwr.models.registry import build_model
from tests.inference.memory_link import classify
from tests.inference.protocol.test_online import Identity, integers

UNIT = 2.0**-ring.ACTIVATION_BITS


def trained(temporal: str, norm: str) -> nn.Module:
    cfg = ModelConfig(name="sequence", temporal=temporal, norm=norm)
    model = build_model(cfg, outputs=3, channels=5, seed=0).train()
    with torch.no_grad():
        model(noise(16))  # for its statistics
    return model.eval()


def noise(count: int) -> Tensor:
    return torch.rand(count, 5, 16, 16, generator=torch.Generator().manual_seed(count))


def test_frames_come_back_in_their_order() -> None:
    """A convolution of one cell, 1, over each frame, and nothing lost on the way."""
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    net = nn.Sequential(PerFrame(3, layer, nn.Flatten()), Together(3), nn.Flatten(), Identity(12))
    images = integers(2, 3, 2, 2)
    scores, *_ = classify(lower(net, (2, 3, 2, 2)), images)
    assert (scores - images.flatten(1)).abs().max() <= 2 * UNIT


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("temporal", ["mean", "conv"])
def test_two_parties_find_what_the_plain_model_says(temporal: str, norm: str) -> None:
    model, images = trained(temporal, norm), noise(2)
    lowered = lower(model, tuple(images.shape))
    scores, *_ = classify(lowered, images)
    with torch.inference_mode():
        expected = model(images)
    assert (scores - expected).abs().max() < 0.002
    rehearsed = Rehearsal(lowered, generator=torch.Generator().manual_seed(0)).classify(images)
    assert (rehearsed - expected).abs().max() < 0.002


@pytest.mark.parametrize(("temporal", "flights", "more"), [("mean", 8, 0), ("conv", 10, 64 * 3)])
def test_delays_and_comparisons_by_hand(temporal: str, flights: int, more: int) -> None:
    """Three ReLUs of a frame, all frames in one step; time takes one more, or none."""
    plan = lower(trained(temporal, "batch"), (1, 5, 16, 16)).plan
    assert plan.flights == flights
    compared = 5 * (32 * 8 * 8 + 64 * 4 * 4 + 64 * 2 * 2) + more
    assert sum(num_compared(step) for step in plan.comparisons) == compared
    apart = [step.shape for step in plan.steps if isinstance(step, Flatten)]
    assert apart[:3] == [(5, 1, 16, 16), (5, 64), (1, 1, 5, 64)]


@pytest.mark.parametrize("temporal", ["mean", "conv"])
def test_an_audit_takes_a_sequence(temporal: str) -> None:
    check_plan(lower(trained(temporal, "batch"), (1, 5, 16, 16)).plan)
