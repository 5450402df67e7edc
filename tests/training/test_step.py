"""The loss scale of fp16 outlives a round, whatever becomes of the optimiser's state."""

from dataclasses import replace

import pytest
import torch

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.training.step import TrainingStep
from tests.training.tiny_training import PLAIN, small_net

SCALE, GROWTH = "grad_scaler/scale", "grad_scaler/growth"
FP16 = replace(PLAIN, device="auto", precision="fp16", optimizer="adamw")


def step(cfg: TrainingConfig, state: dict[str, torch.Tensor] | None = None) -> TrainingStep:
    loss = torch.nn.CrossEntropyLoss()
    return TrainingStep(small_net(), cfg, torch.device("cpu"), loss=loss, optimizer_state=state)


def take(one: TrainingStep) -> None:
    one(torch.full((2, 1, 16, 16), 0.5), torch.tensor([0, 1]), 1e-3)


@pytest.mark.parametrize("kept", ["keep", "reset"])
def test_the_next_round_goes_on_with_the_scale(kept: str) -> None:
    cfg = replace(FP16, optimizer_state=kept)
    first = step(cfg, {SCALE: torch.tensor(1024.0), GROWTH: torch.tensor(5)})
    take(first)
    state = first.optimizer_state()
    assert state is not None
    assert (state[SCALE].item(), state[GROWTH].item()) == (1024, 6)
    assert (len(state) > 2) == (kept == "keep")
    again = step(cfg, state).optimizer_state()
    assert again is not None
    assert (again[SCALE].item(), again[GROWTH].item()) == (1024, 6)


def test_a_state_without_a_scale_begins_with_pytorchs_own() -> None:
    found = step(replace(FP16, optimizer_state="reset"), {}).optimizer_state()
    assert found is not None
    assert (found[SCALE].item(), found[GROWTH].item()) == (2.0**16, 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_fp16_a_reset_keeps_nothing(precision: str) -> None:
    one = step(replace(FP16, precision=precision, optimizer_state="reset"))
    take(one)
    assert one.optimizer_state() is None
