"""Several steps of a unit before it is clipped: by hand, and never more than the clipping norm."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.clipping import build_engine
from primia_flwr.privacy.clipping.engine import Engine
from tests.privacy.clipping.clipped_nets import batch, cross_entropy, odd_net


def half_squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs[:, 0] - targets) ** 2


def line(weight: float) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False)).double()
    nn.init.constant_(model[1].weight, weight)
    return model


def engine_of(model: nn.Module, steps: int, *, clip_norm: float, rate: float = 0.5) -> Engine:
    return build_engine(
        "loop", model, half_squared, clip_norm=clip_norm, unit_steps=steps, unit_rate=rate
    )


def one(value: float, target: float) -> tuple[Tensor, Tensor]:
    image = torch.full((1, 1, 1, 1), value, dtype=torch.float64)
    return image, torch.tensor([target], dtype=torch.float64)


def test_two_and_three_steps_by_hand() -> None:
    # loss (w - 3)^2 / 2 from w = 1, rate 0.5: gradients -2, -1, -0.5
    image, target = one(1.0, 3.0)
    for steps, mean in ((1, -2.0), (2, -1.5), (3, -3.5 / 3)):
        model = line(1.0)
        (found,) = engine_of(model, steps, clip_norm=10).clipped_sum(image, target)
        assert float(found) == pytest.approx(mean, abs=1e-12)
        assert float(model[1].weight) == 1.0  # the model is what it was
    (clipped,) = engine_of(line(1.0), 2, clip_norm=0.25).clipped_sum(image, target)
    assert float(clipped) == pytest.approx(-0.25, abs=1e-12)


def test_units_do_not_see_each_others_steps() -> None:
    images = torch.cat([one(1.0, 3.0)[0], one(1.0, -1.0)[0]])
    targets = torch.tensor([3.0, -1.0], dtype=torch.float64)
    (found,) = engine_of(line(1.0), 2, clip_norm=10).clipped_sum(images, targets)
    assert float(found) == pytest.approx(-1.5 + 1.5, abs=1e-12)


def test_one_step_is_the_loop_bit_for_bit() -> None:
    model = odd_net(standardised=False)
    images, targets = batch(3)
    sums = [
        build_engine(
            "loop", copy.deepcopy(model), cross_entropy, clip_norm=0.3, **more
        ).clipped_sum(images, targets)
        for more in ({}, {"unit_steps": 1, "unit_rate": 0.7})
    ]
    assert all(torch.equal(a, b) for a, b in zip(*sums, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(1, 6), st.floats(1e-3, 50))
def test_no_unit_adds_more_than_the_clipping_norm(
    value: float, target: float, steps: int, rate: float
) -> None:
    engine = engine_of(line(1.0), steps, clip_norm=0.5, rate=rate)
    (found,) = engine.clipped_sum(*one(value, target))
    assert torch.isfinite(found).all()  # a unit that runs away contributes nothing
    assert float(found.abs()) <= 0.5 * (1 + 1e-12)


@pytest.mark.parametrize(
    ("given_keys", "sentence"),
    [
        ({"mode": "dp_sgd", "patient_steps": 0}, "privacy.patient_steps=0"),
        ({"mode": "dp_sgd", "patient_steps": 4}, "privacy.engine=ghost; expected loop"),
        ({"mode": "dp_aggregate", "patient_steps": 4}, "expected dp_sgd or dp_sgd_shared"),
        ({"mode": "none", "patient_steps": 4}, "expected dp_sgd or dp_sgd_shared"),
        ({"mode": "dp_sgd", "patient_rate": 0.0}, "privacy.patient_rate=0"),
    ],
)
def test_what_cannot_be_is_refused(given_keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PrivacyConfig(**{"epsilon": 0.0 if given_keys["mode"] == "none" else 3.0, **given_keys})
