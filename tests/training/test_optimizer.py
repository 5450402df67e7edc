from dataclasses import replace

import pytest
import torch

from primia_flwr.errors import CheckpointError
from primia_flwr.training.optimizer import build_optimizer, pack_state, unpack_state
from tests.training.tiny_training import PLAIN, OnePixel

KINDS = {
    "sgd": {"momentum_buffer"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "rmsprop": {"step", "square_avg"},
    "adagrad": {"step", "sum"},
}


def stepped(kind: str) -> tuple[OnePixel, dict[str, torch.Tensor]]:
    model = OnePixel()
    optimizer = build_optimizer(model, replace(PLAIN, optimizer=kind, momentum=0.9))
    model(torch.ones(2, 1, 1, 1))[:, 1].sum().backward()
    optimizer.step()
    return model, pack_state(optimizer, model)


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_named_by_parameter_and_comes_back(kind: str) -> None:
    model, state = stepped(kind)
    assert state.keys() == {f"{name}/{slot}" for name in ("w", "b") for slot in KINDS[kind]}
    fresh = build_optimizer(model, replace(PLAIN, optimizer=kind, momentum=0.9))
    begins = pack_state(fresh, model)  # Adagrad's sums are there from the start
    assert begins.keys() == (state.keys() if kind == "adagrad" else set())
    assert not any(value.any() for value in begins.values())
    unpack_state(fresh, model, state, kind=kind)
    for key, value in pack_state(fresh, model).items():
        assert torch.equal(value, state[key])


def test_first_moment_by_hand() -> None:
    _, state = stepped("adamw")  # gradient 2 (two images), beta_1 = 0.9
    assert float(state["w/exp_avg"]) == pytest.approx(0.2)
    assert float(state["w/step"]) == 1.0


def test_squares_by_hand() -> None:
    assert float(stepped("rmsprop")[1]["w/square_avg"]) == pytest.approx(0.01 * 4)  # alpha 0.99
    assert float(stepped("adagrad")[1]["w/sum"]) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v/exp_avg": torch.zeros(1)}, "'v/exp_avg' does not belong"),
        ({"w/momentum_buffer": torch.zeros(1, 1)}, "'w/momentum_buffer' does not belong"),
        ({"w/exp_avg": torch.zeros(2, 2)}, r"\(2, 2\); expected \(1, 1\)"),
    ],
)
def test_state_of_another_model_or_optimiser_is_refused(
    change: dict[str, torch.Tensor], message: str
) -> None:
    model, state = stepped("adamw")
    fresh = build_optimizer(model, replace(PLAIN, optimizer="adamw"))
    with pytest.raises(CheckpointError, match=message):
        unpack_state(fresh, model, {**state, **change}, kind="adamw")
