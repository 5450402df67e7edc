from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.errors import ProtocolError
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.models.registry import build_model


@pytest.fixture(scope="module")
def spec() -> CorrelationSpec:
    model = build_model(ModelConfig(name="simpleconv"), outputs=3, channels=1, seed=0)
    return CorrelationSpec.of(lower(model, (1, 1, 32, 32)).plan)


def test_what_simpleconv_needs(spec: CorrelationSpec) -> None:
    assert spec.openings == (
        (1, 1, 32, 32),
        (1, 32, 16, 16),
        (1, 64, 8, 8),
        (1, 128, 4, 4),
        (1, 256),
    )
    # Maxima over 32 x 32 in two levels of one pair each, then a ReLU.
    assert [c.count for c in spec.comparisons[:3]] == [32 * 32 * 16, 32 * 16 * 16, 32 * 16 * 16]
    assert {c.bits for c in spec.comparisons} == {32}


def test_round_trip(spec: CorrelationSpec) -> None:
    for one in (spec, replace(spec, audit=True)):
        assert CorrelationSpec.from_bytes(one.to_bytes()) == one


def test_audited_needs_are_others(spec: CorrelationSpec) -> None:
    assert spec != replace(spec, audit=True)
    assert spec.to_bytes() != replace(spec, audit=True).to_bytes()


@given(st.binary(max_size=200))
def test_rubbish_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="request for randomness"):
        CorrelationSpec.from_bytes(raw)


def _set(path: tuple[Any, ...], value: Any) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(("openings", 0), [1, 1, 2**20, 2**20]),
        _set(("openings", 0), [1, -1, 32, 32]),
        _set(("openings", 0), []),
        _set(("openings", 0, 1), True),
        _set(("products", 0, "opening"), 99),
        _set(("products", 0, "shape"), [1, 32, 31, 32]),
        _set(("products", 0, "geometry", "stride"), [0, 1]),
        _set(("products", 0, "geometry", "groups"), 0),
        _set(("products", 0, "geometry"), None),
        _set(("comparisons", 0, "bits"), 7),
        _set(("comparisons", 0, "bits"), 65),
        _set(("comparisons", 0, "count"), 0),
        _set(("comparisons", 0, "count"), 2**40),
        _set(("comparisons", 0, "count"), 3.0),
        _set(("comparisons", 0, "more"), 1),
        _set(("audit",), 1),
        _set(("audit",), "true"),
        lambda values: values.pop("audit"),
    ],
)
def test_what_no_network_needs_is_refused(
    spec: CorrelationSpec, change: Callable[[Any], None]
) -> None:
    values = json.loads(spec.to_bytes())
    change(values)
    raw = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ProtocolError, match="request for randomness"):
        CorrelationSpec.from_bytes(raw)
