import numpy as np
import pytest

from primia_flwr.privacy.mechanisms.averaging import averaged


def model_of(value: float) -> dict[str, np.ndarray]:
    return {"weight": np.full((2,), value, np.float32)}


def test_by_hand() -> None:
    first = averaged(model_of(0.0), model_of(10.0), decay=0.15, rounds=0)  # past 1/10
    assert first["weight"].tolist() == pytest.approx([9.0, 9.0])
    second = averaged(first, model_of(0.0), decay=0.15, rounds=1)  # past min(0.15, 2/11)
    assert second["weight"].tolist() == pytest.approx([1.35, 1.35])


def test_no_decay_keeps_the_last_model() -> None:
    assert averaged(model_of(3.0), model_of(7.0), decay=0.0, rounds=5)["weight"][0] == 7.0


def test_neither_model_is_changed() -> None:
    average, model = model_of(1.0), model_of(2.0)
    found = averaged(average, model, decay=0.9, rounds=100)
    assert found["weight"].dtype == np.float32
    assert found["weight"][0] == pytest.approx(1.1)
    assert (average["weight"][0], model["weight"][0]) == (1.0, 2.0)
