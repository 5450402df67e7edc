import pytest
import torch
from torch import nn

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.averaging import ParameterAverage


def model_of(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_by_hand() -> None:
    average = ParameterAverage(model_of(0.0), decay=0.15)
    average.update(model_of(10.0))  # decay 1/10: 0.1 * 0 + 0.9 * 10
    assert average.parameters()["weight"].item() == pytest.approx(9.0)
    average.update(model_of(0.0))  # decay min(0.15, 2/11): 0.15 * 9
    assert average.parameters()["weight"].item() == pytest.approx(1.35)


def test_what_it_hands_out_is_a_copy() -> None:
    model = model_of(1.0)
    average = ParameterAverage(model, decay=0.5)
    average.parameters()["weight"].zero_()
    with torch.no_grad():
        model.weight.zero_()
    assert average.parameters()["weight"].item() == 1.0


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_wrong_decays_are_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match="decay="):
        ParameterAverage(model_of(0.0), decay=decay)
