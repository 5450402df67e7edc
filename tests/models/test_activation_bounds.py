from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import CheckpointError
from primia_flwr.models.activation_bounds import ActivationBounds, Precision

GOOD: dict[str, Any] = {
    "images": 7,
    "spare_bits": 4,
    "layers": ["conv", "relu"],
    "largest": [10.0, 0.0],
    "bits": [23, 8],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


PRECISION: dict[str, Any] = {
    "largest_score": 3.0,
    "largest_difference": 0.001,
    "changed": 0,
    "ties_changed": 1,
    "wrong_cuts": 1e-6,
}


def test_the_comparison_with_the_clear_comes_back_too() -> None:
    bounds = ActivationBounds.from_dict({**GOOD, "precision": PRECISION})
    assert bounds.precision == Precision(3.0, 0.001, 0, 1, 1e-6)
    assert json.loads(json.dumps(bounds.to_dict())) == {**GOOD, "precision": PRECISION}


@pytest.mark.parametrize("name", sorted(PRECISION))
@pytest.mark.parametrize("value", [-1, -1.0, "0", None, True, float("nan"), [0]])
def test_a_comparison_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"activation_bounds.precision.{name}="):
        ActivationBounds.from_dict({**GOOD, "precision": {**PRECISION, name: value}})


@pytest.mark.parametrize("values", [{}, [], 1, {**PRECISION, "more": 1}, {"changed": 0}])
def test_a_comparison_with_other_keys_is_refused(values: object) -> None:
    with pytest.raises(CheckpointError, match="precision of a model card; expected changed"):
        ActivationBounds.from_dict({**GOOD, "precision": values})


def test_what_was_written_comes_back() -> None:
    bounds = ActivationBounds.from_dict(GOOD)
    assert bounds == ActivationBounds(7, 4, ("conv", "relu"), (10.0, 0.0), (23, 8))
    assert json.loads(json.dumps(bounds.to_dict())) == GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "activation_bounds.images=0"),
        ({"images": True}, "activation_bounds.images=True"),
        ({"images": "\x1b[2J"}, r"activation_bounds.images='\\x1b\[2J'"),
        ({"spare_bits": -1}, "activation_bounds.spare_bits=-1"),
        ({"layers": ["conv", 1]}, "activation_bounds.layers"),
        ({"largest": [10.0, float("nan")]}, "activation_bounds.largest"),
        ({"largest": [float("inf"), 1.0]}, "activation_bounds.largest"),
        ({"largest": [-1.0, 1.0]}, "activation_bounds.largest"),
        ({"largest": [10, 1.0]}, "activation_bounds.largest"),
        ({"bits": [23, 7]}, "activation_bounds.bits"),
        ({"largest": [10.0]}, "2 layers, 1 magnitudes, 2 rings"),
        ({"layers": [], "largest": []}, "for at most 1000 comparisons"),
        ({"layers": "conv"}, "expected lists"),
        ({"largest": None}, "expected lists"),
        ({"more": 1}, "expected bits, images"),
    ],
)
def test_what_calibration_does_not_write_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ActivationBounds.from_dict({**GOOD, **change})


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_anything_else_is_refused_or_well_formed(name: str, value: Any) -> None:
    try:
        bounds = ActivationBounds.from_dict({**GOOD, name: value})
    except CheckpointError:
        return
    assert len(bounds.layers) == len(bounds.largest) == len(bounds.bits)


@given(JSON)
def test_no_object_is_no_bounds(value: Any) -> None:
    with pytest.raises(CheckpointError):
        ActivationBounds.from_dict(value)
