from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.secagg.payload.integers import (
    decode_integers,
    encode_integers,
    from_steps,
    to_steps,
)


def test_by_hand() -> None:
    encoded = encode_integers([1, 0, -1], 1)
    assert encoded.dtype == np.uint64
    assert [int(n) for n in encoded] == [1, 0, 2**64 - 1]
    assert decode_integers(encoded) == [1, 0, -1]


@pytest.mark.parametrize("clients", [1, 3, 100, 1000])
def test_the_extremes_add_up_without_a_wrap(clients: int) -> None:
    bound = (2**63 - 1) // clients
    total = sum((encode_integers([bound, -bound], clients) for _ in range(clients)), np.uint64(0))
    assert decode_integers(total) == [clients * bound, -clients * bound]
    for value in (bound + 1, -bound - 1):
        with pytest.raises(ProtocolError, match=f"integer 1 is {value}"):
            encode_integers([0, value], clients)


@given(st.lists(st.lists(st.integers(-(2**56), 2**56), min_size=3, max_size=3), min_size=1))
def test_sums_are_exact(rows: list[list[int]]) -> None:
    total = np.zeros(3, np.uint64)
    for row in rows:
        total += encode_integers(row, 100)
    assert decode_integers(total) == [sum(column) for column in zip(*rows, strict=True)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(1e-9, 1e3))
def test_reals_are_off_by_half_a_step_each(values: list[float], step: float) -> None:
    total = from_steps(sum(to_steps(value, step) for value in values), step)
    exact = math.fsum(values)
    assert abs(total - exact) <= len(values) * step / 2 * (1 + 1e-9) + abs(exact) * 1e-15


def test_steps_by_hand() -> None:
    assert [to_steps(x, 0.5) for x in (0.25, 0.75, 1.0, -0.6)] == [0, 2, 2, -1]
    assert from_steps(3, 0.5) == 1.5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(ProtocolError, match="expected a finite one"):
        to_steps(value, 1.0)
    with pytest.raises(ConfigError, match="expected a finite number above 0"):
        to_steps(1.0, value)


def test_refuses_other_arrays_and_counts() -> None:
    with pytest.raises(ProtocolError, match="expected uint64 of one dimension"):
        decode_integers(np.zeros(2, np.uint32))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="num_clients=0"):
        encode_integers([1], 0)
