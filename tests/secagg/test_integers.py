import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.secagg.integers import (
    decode_integers,
    decode_reals,
    decode_signed,
    encode_integers,
    encode_reals,
    encode_signed,
)


def total(arrays: list[np.ndarray]) -> np.ndarray:
    result = np.zeros_like(arrays[0])
    for array in arrays:
        result += array
    return result


def test_limbs_by_hand() -> None:
    array = encode_integers([0x0001_0002_0003_0004, 65_535])
    assert array.dtype == np.uint32
    assert array.tolist() == [4, 3, 2, 1, 65_535, 0, 0, 0]
    assert decode_integers(array) == [0x0001_0002_0003_0004, 65_535]
    assert encode_signed([-1], 32).tolist() == [65_535, 65_535]
    assert decode_integers(np.array([65_537, 1], np.uint32), 32) == [65_537 + 65_536]


def test_the_largest_sum_fits() -> None:
    # 65,536 clients, all limbs full: 65,536 * 65,535 < 2^32
    array = encode_integers([2**64 - 1]) * np.uint32(65_536)
    assert decode_integers(array) == [65_536 * (2**64 - 1)]
    for extreme in (2**47 - 1, -(2**47)):
        assert decode_signed(encode_signed([extreme]) * np.uint32(65_536)) == [65_536 * extreme]


@pytest.mark.parametrize("bits", [16, 48, 64, 128])
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_sums_over_any_clients_are_exact(bits: int, data: st.DataObject) -> None:
    row = st.lists(st.integers(0, 2**bits - 1), min_size=3, max_size=3)
    rows = data.draw(st.lists(row, min_size=1, max_size=20))
    array = total([encode_integers(row, bits) for row in rows])
    assert decode_integers(array, bits) == [sum(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("bits", [32, 64, 128])
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_signed_sums_over_any_clients_are_exact(bits: int, data: st.DataObject) -> None:
    bound = 2 ** (bits - 17)
    row = st.lists(st.integers(-bound, bound - 1), min_size=2, max_size=2)
    rows = data.draw(st.lists(row, min_size=1, max_size=20))
    array = total([encode_signed(row, bits) for row in rows])
    assert decode_signed(array, bits) == [sum(column) for column in zip(*rows, strict=True)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from([1e-6, 0.25, 1e-3]))
def test_reals_are_off_by_half_a_step_for_each_client(values: list[float], step: float) -> None:
    (decoded,) = decode_reals(total([encode_reals([value], step) for value in values]), step)
    exact = sum(map(Fraction, values))
    bound = len(values) * Fraction(step) / 2
    assert abs(Fraction(decoded) - exact) <= bound + Fraction(math.ulp(decoded))


def test_reals_by_hand() -> None:
    # multiples of 1/4, halves to even: 0.3 -> 1, 0.125 -> 0, 0.375 -> 2, -0.6 -> -2
    array = encode_reals([0.3, 0.125, 0.375, -0.6], 0.25)
    assert decode_signed(array) == [1, 0, 2, -2]
    assert decode_reals(array, 0.25) == [0.25, 0.0, 0.5, -0.5]


def test_no_value_is_no_entry() -> None:
    assert encode_integers([]).size == 0
    assert decode_integers(np.zeros(0, np.uint32)) == []


# --- Refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, 2**64])
def test_refuses_integers_out_of_range(value: int) -> None:
    with pytest.raises(ProtocolError, match=rf"integer 1 is {value}; expected 0 to 2\^64 - 1"):
        encode_integers([5, value])


@pytest.mark.parametrize("value", [2**47, -(2**47) - 1])
def test_refuses_signed_integers_out_of_range(value: int) -> None:
    with pytest.raises(ProtocolError, match=rf"integer 0 is {value}; expected -2\^47"):
        encode_signed([value])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_refuses_reals_that_are_not_finite(value: float) -> None:
    with pytest.raises(ProtocolError, match=f"real 0 is {value}"):
        encode_reals([value], 0.5)


def test_refuses_reals_of_too_many_steps() -> None:
    with pytest.raises(ProtocolError, match="integer 0 is"):
        encode_reals([1e9], 1e-6)


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_step(step: float) -> None:
    with pytest.raises(ConfigError, match="step="):
        encode_reals([1.0], step)
    with pytest.raises(ConfigError, match="step="):
        decode_reals(np.zeros(4, np.uint32), step)


@pytest.mark.parametrize("bits", [0, 8, 63, 144, -16])
def test_refuses_a_number_of_bits(bits: int) -> None:
    for encode in (encode_integers, encode_signed):
        with pytest.raises(ConfigError, match=f"bits={bits}; expected a multiple of 16"):
            encode([1], bits)
    for decode in (decode_integers, decode_signed):
        with pytest.raises(ConfigError, match=f"bits={bits}"):
            decode(np.zeros(4, np.uint32), bits)
    with pytest.raises(ConfigError, match="from 32 to 128"):
        encode_signed([0], 16)


@pytest.mark.parametrize(
    "array", [np.zeros(5, np.uint32), np.zeros(4, np.int64), np.zeros((1, 4), np.uint32)]
)
def test_refuses_other_arrays(array: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="the encoded integers are"):
        decode_integers(array)
