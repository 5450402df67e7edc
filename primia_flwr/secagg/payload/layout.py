"""What a client puts into an instance: an update of reals, and a table of named numbers.

The update travels modulo 2^32, the numbers modulo 2^64; of both the server learns sums only.

Source of the weighting: McMahan et al. 2017; each update is scaled by w_k / w_max, and the sum
of the w_k travels as one of the numbers, exactly.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.payload.fixed_point import FixedPoint, Overflow, Real
from primia_flwr.secagg.payload.integers import (
    decode_integers,
    encode_integers,
    from_steps,
    to_steps,
)
from primia_flwr.secagg.payload.masks import Vector

WEIGHT = "weight"
REAL_STEP = 2.0**-20


@dataclass(frozen=True)
class Number:
    """A named list of numbers in the table.

    `step`: 0 for integers, else the step of reals.
    """

    name: str
    size: int = 1
    step: float = 0.0


@dataclass(frozen=True)
class Layout:
    """How a payload is laid out, the same for all clients.

    Parameters
    ----------
    entries : int
        Of the update; 0 where only numbers travel.
    numbers : sequence of Number
        The table; with an update it has `WEIGHT`.
    clip : float
        Largest magnitude of an entry of the update.
    max_weight : int
        w_max, the largest weight.
    num_clients : int
        How many payloads may be added up.
    """

    entries: int
    numbers: Sequence[Number]
    clip: float
    max_weight: int
    num_clients: int

    @property
    def fixed_point(self) -> FixedPoint:
        """The scale of the update."""
        return FixedPoint(self.clip, self.num_clients)

    def encode(
        self,
        update: Real | None,
        values: Mapping[str, Sequence[float]],
        *,
        overflow: Overflow = "decline",
        discount: float = 1.0,
    ) -> list[Vector]:
        """Return the vectors to mask: uint32 (entries,), where there are any, and uint64.

        Parameters
        ----------
        update : ndarray or None
            (entries,) float; None for a client that has none this time: zeros.
        values : mapping of str to sequence of float
            By name; what is left out counts as zeros. `WEIGHT` is 0 without an update.
        overflow : {"decline", "clip"}
            What becomes of an entry beyond `clip`.
        discount : float
            The update counts so many times, in (0, 1]; its weight is not lessened.

        Raises
        ------
        ProtocolError
            If a value is out of range, or the weight does not fit the update.
        """
        vectors: list[Vector] = []
        if self.entries:
            vectors.append(self._encode_update(update, values, overflow, discount))
        table: list[int] = []
        for number in self.numbers:
            given = values.get(number.name, (0,) * number.size)
            if len(given) != number.size:
                raise ProtocolError(
                    f"{number.name} has {len(given)} numbers; expected {number.size}"
                )
            table += [to_steps(v, number.step) if number.step else int(v) for v in given]
        vectors.append(encode_integers(table, self.num_clients))
        return vectors

    def spoiled(self, values: Mapping[str, Sequence[int]]) -> list[Vector]:
        """Return vectors that hide the sum they are part of, but for these numbers.

        A client that has nothing to add does not send zeros: with fewer updates in it a sum would
        show more of each. All other words are drawn from the operating system.
        """
        vectors: list[Vector] = []
        if self.entries:
            raw = secrets.token_bytes(4 * self.entries)
            vectors.append(np.frombuffer(raw, np.uint32).copy())
        size = sum(number.size for number in self.numbers)
        table = np.frombuffer(secrets.token_bytes(8 * size), np.uint64).copy()
        at = 0
        for number in self.numbers:
            if number.name in values:
                given = encode_integers(list(values[number.name]), self.num_clients)
                table[at : at + number.size] = given
            at += number.size
        return [*vectors, table]

    def numbers_of(self, totals: Sequence[Vector]) -> dict[str, list[float]]:
        """Return the sums of the numbers.

        Raises
        ------
        ProtocolError
            If the vectors do not fit the layout.
        """
        *update, table = totals
        if len(update) != bool(self.entries) or table.size != sum(n.size for n in self.numbers):
            raise ProtocolError("the summed vectors do not fit the layout; expected as agreed")
        values: dict[str, list[float]] = {}
        sums = iter(decode_integers(table))  # type: ignore[arg-type]
        for number in self.numbers:
            read = [next(sums) for _ in range(number.size)]
            values[number.name] = (
                [from_steps(v, number.step) for v in read] if number.step else list(read)
            )
        return values

    def mean_of(self, totals: Sequence[Vector], weight_sum: float) -> Real | None:
        """Return the weighted mean of the updates, float32; None where nobody had one.

        Raises
        ------
        ProtocolError
            If the weights cannot be those of `num_clients` clients.
        """
        if not self.entries or weight_sum == 0:
            return None
        mean = np.empty(self.entries, np.float32)
        total = totals[0]
        self.fixed_point.decode(total, weight_sum / self.max_weight, mean)  # type: ignore[arg-type]
        return mean

    def error_bound(self, survivors: int, weight_sum: float) -> float:
        """Return the largest error of an entry of the mean that the fixed point makes."""
        return survivors / 2 * self.fixed_point.step * self.max_weight / weight_sum

    def _encode_update(
        self,
        update: Real | None,
        values: Mapping[str, Sequence[float]],
        overflow: Overflow,
        discount: float,
    ) -> Vector:
        out = np.zeros(self.entries, np.uint32)
        (weight,) = values.get(WEIGHT, (0,))
        if (update is None) != (weight == 0) or not 0 <= weight <= self.max_weight:
            raise ProtocolError(
                f"{WEIGHT}={weight:g} of {'no' if update is None else 'an'} update; expected above "
                f"0 and at most max_weight={self.max_weight} with an update, 0 without"
            )
        if update is not None:
            ratio = weight / self.max_weight * discount
            self.fixed_point.encode(update, ratio, out, overflow=overflow)
        return out


def round_to_digits(value: int, digits: int) -> int:
    """Return a count rounded to so many significant digits, at least 1 if it is not 0.

    Half goes up: 1,250 is 1,300 with two digits.
    """
    if value <= 0 or digits <= 0:
        return max(value, 0)
    unit: int = 10 ** max(len(str(value)) - digits, 0)
    return (value + unit // 2) // unit * unit
