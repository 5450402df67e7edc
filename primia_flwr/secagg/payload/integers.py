"""Exact integers, and reals with a stated step, modulo 2^64.

One entry of a ring carries one number. Splitting a number over entries of a smaller ring would
show more than the sum: the sum of the low parts tells of the carries.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, DivergenceError, ProtocolError

_Integers = NDArray[np.uint64]
_TOP = 2**63 - 1


def encode_integers(values: Sequence[int], num_clients: int) -> _Integers:
    """Encode integers in two's complement: (n,) uint64.

    Parameters
    ----------
    values : sequence of int
        Each of a magnitude up to (2^63 - 1) // num_clients.
    num_clients : int
        How many such arrays may be added up without a wrap.

    Raises
    ------
    ConfigError
        If `num_clients` is below 1.
    DivergenceError
        If a value is out of range.
    """
    if num_clients < 1:
        raise ConfigError(f"num_clients={num_clients}; expected 1 or more")
    bound = _TOP // num_clients
    for index, value in enumerate(values):
        if not -bound <= value <= bound:
            raise DivergenceError(
                f"integer {index} is {value}; expected at most {bound} in magnitude, so that a "
                f"sum over {num_clients} clients fits 64 bits"
            )
    return np.array(values, np.int64).view(np.uint64)


def decode_integers(total: _Integers) -> list[int]:
    """Return the integers in a sum of encoded arrays.

    Raises
    ------
    ProtocolError
        If the array is not uint64 of one dimension.
    """
    if total.dtype != np.uint64 or total.ndim != 1:
        raise ProtocolError(
            f"the encoded integers are {total.dtype} {total.shape}; expected uint64 of one "
            "dimension"
        )
    return [int(value) for value in total.view(np.int64)]


def to_steps(value: float, step: float) -> int:
    """Return a real as a multiple of `step`, rounded half to even: off by at most step / 2.

    Raises
    ------
    ConfigError
        If `step` is not finite and above 0.
    DivergenceError
        If the value is not finite.
    """
    if not math.isfinite(value):
        raise DivergenceError(f"a real number is {value}; expected a finite one")
    return round(Fraction(value) / _unit(step))


def from_steps(steps: int, step: float) -> float:
    """Undo `to_steps`, also for a sum of steps."""
    return float(steps * _unit(step))


def _unit(step: float) -> Fraction:
    if not (math.isfinite(step) and step > 0):
        raise ConfigError(f"step={step}; expected a finite number above 0, e.g. 1e-6")
    return Fraction(step)
