"""Exact sums of integers and of reals with a stated step, as limbs of 16 bits in uint32 entries.

A limb is at most 65,535, so a sum over up to 65,536 clients does not wrap its entry; the
carries are worked out after the sum. Limbs go from the least significant up.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, ProtocolError

MAX_CLIENTS = 65_536
_LIMB_BITS = 16
_HEADROOM_BITS = 16  # log2(MAX_CLIENTS)


def encode_integers(values: Sequence[int], bits: int = 64) -> NDArray[np.uint32]:
    """Encode non-negative integers; sums of up to 65,536 such arrays decode exactly.

    Parameters
    ----------
    values : sequence of int
        Each 0 to 2^bits - 1.
    bits : int
        A multiple of 16 from 16 to 128.

    Returns
    -------
    ndarray
        (bits / 16 for each value,) uint32.

    Raises
    ------
    ConfigError
        If `bits` is another number.
    ProtocolError
        If a value is out of range.
    """
    limbs = _limbs(bits)
    for index, value in enumerate(values):
        if not 0 <= value < 1 << bits:
            raise ProtocolError(f"integer {index} is {value}; expected 0 to 2^{bits} - 1")
    raw = b"".join(int(value).to_bytes(2 * limbs, "little") for value in values)
    return np.frombuffer(raw, "<u2").astype(np.uint32)


def decode_integers(array: NDArray[np.uint32], bits: int = 64) -> list[int]:
    """Return the sums of the integers in a sum of encoded arrays; they may pass 2^bits.

    Raises
    ------
    ConfigError
        If `bits` is no multiple of 16 from 16 to 128.
    ProtocolError
        If the array is not uint32, of one dimension, or its length fits no number of values.
    """
    limbs = _limbs(bits)
    if array.dtype != np.uint32 or array.ndim != 1 or array.size % limbs:
        raise ProtocolError(
            f"the encoded integers are {array.dtype} {array.shape}; expected uint32 of one "
            f"dimension, {limbs} entries for each integer"
        )
    table = array.reshape(-1, limbs).tolist()
    return [sum(limb << _LIMB_BITS * i for i, limb in enumerate(row)) for row in table]


def encode_signed(values: Sequence[int], bits: int = 64) -> NDArray[np.uint32]:
    """Encode integers in two's complement; sums of up to 65,536 such arrays decode exactly.

    Parameters
    ----------
    values : sequence of int
        Each -2^(bits - 17) to 2^(bits - 17) - 1: the sum then stays within `bits`.
    bits : int
        A multiple of 16 from 32 to 128.

    Raises
    ------
    ConfigError
        If `bits` is another number.
    ProtocolError
        If a value is out of range.
    """
    _limbs(bits, least=2)
    bound = 1 << bits - 1 - _HEADROOM_BITS
    for index, value in enumerate(values):
        if not -bound <= value < bound:
            raise ProtocolError(
                f"integer {index} is {value}; expected -2^{bits - 17} to 2^{bits - 17} - 1"
            )
    return encode_integers([value % (1 << bits) for value in values], bits)


def decode_signed(array: NDArray[np.uint32], bits: int = 64) -> list[int]:
    """Return the sums of the integers in a sum of arrays that `encode_signed` made.

    Raises
    ------
    ConfigError
        If `bits` is no multiple of 16 from 32 to 128.
    ProtocolError
        If the array is not uint32, of one dimension, or its length fits no number of values.
    """
    _limbs(bits, least=2)
    half = 1 << bits - 1
    return [(value + half) % (1 << bits) - half for value in decode_integers(array, bits)]


def encode_reals(values: Sequence[float], step: float, bits: int = 64) -> NDArray[np.uint32]:
    """Encode reals as multiples of `step`, rounded half to even: off by at most step / 2 each.

    Raises
    ------
    ConfigError
        If `step` is not finite and above 0, or `bits` no multiple of 16 from 32 to 128.
    ProtocolError
        If a value is not finite, or beyond 2^(bits - 17) steps.
    """
    unit = _unit(step)
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise ProtocolError(f"real {index} is {value}; expected a finite number")
    return encode_signed([round(Fraction(value) / unit) for value in values], bits)


def decode_reals(array: NDArray[np.uint32], step: float, bits: int = 64) -> list[float]:
    """Return the sums of the reals in a sum of arrays that `encode_reals` made.

    They differ from the true sums by at most step / 2 for each client, and a rounding to float.

    Raises
    ------
    ConfigError
        If `step` is not finite and above 0, or `bits` no multiple of 16 from 32 to 128.
    ProtocolError
        If the array is not uint32, of one dimension, or its length fits no number of values.
    """
    unit = _unit(step)
    return [float(value * unit) for value in decode_signed(array, bits)]


def _limbs(bits: int, least: int = 1) -> int:
    limbs, rest = divmod(bits, _LIMB_BITS)
    if rest or not least <= limbs <= 8:
        raise ConfigError(
            f"bits={bits}; expected a multiple of 16 from {_LIMB_BITS * least} to 128"
        )
    return limbs


def _unit(step: float) -> Fraction:
    if not (math.isfinite(step) and step > 0):
        raise ConfigError(f"step={step}; expected a finite number above 0, e.g. 1e-6")
    return Fraction(step)
