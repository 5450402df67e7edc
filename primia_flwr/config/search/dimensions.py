"""One dimension of a search space: an interval of numbers or a closed list of choices."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_Scalar = bool | int | float | str


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included.

    `log`: drawn evenly on the logarithmic scale. `step`: only low, low + step, ...; None: all.
    `integer`: whole numbers, as the key of the experiment asks for.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def contains(self, value: object) -> bool:
        """Whether the value is one that this interval can give."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.integer and not isinstance(value, int):
            return False
        if not (math.isfinite(value) and self.low <= value <= self.high):
            return False
        return self.step is None or is_whole((value - self.low) / self.step)

    def describe(self) -> str:
        """Return the interval in words."""
        step = "" if self.step is None else f" in steps of {self.step}"
        kind = "an integer" if self.integer else "a number"
        return f"{kind} from {self.low} to {self.high}{step}"


@dataclass(frozen=True)
class Choices:
    """A closed list of values: of scalars, or of lists for keys that hold lists."""

    values: tuple[Any, ...]

    def contains(self, value: object) -> bool:
        """Whether the value is one of them."""
        return any(_same(value, known) for known in self.values)

    def describe(self) -> str:
        """Return the choices in words."""
        return f"one of {', '.join(as_text(value) for value in self.values)}"


Dimension = Interval | Choices


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return Optuna's distribution of a dimension."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution([encoded(value) for value in dimension.values])
    if dimension.integer:
        step = 1 if dimension.step is None else int(dimension.step)
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, step)
    return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


def to_dict(dimension: Dimension) -> dict[str, Any]:
    """Return a dimension as the YAML writes it."""
    if isinstance(dimension, Choices):
        return {"choices": list(dimension.values)}
    values: dict[str, Any] = {"low": dimension.low, "high": dimension.high}
    if dimension.log:
        values["log"] = True
    if dimension.step is not None:
        values["step"] = dimension.step
    return values


def encoded(value: Any) -> _Scalar:
    """Return the value as Optuna stores a category: scalars as they are, all else as JSON."""
    return value if isinstance(value, bool | int | float | str) else as_text(value)


def as_text(value: object) -> str:
    """Return a value as JSON, for messages and for Optuna's categories."""
    return json.dumps(value, default=str)


def is_whole(ratio: float) -> bool:
    """Whether a ratio of two floats is a whole number but for their rounding."""
    return abs(ratio - round(ratio)) < 1e-9 * max(1.0, abs(ratio))


def _same(one: object, other: object) -> bool:
    """Whether two values are equal, true not being 1, and a tuple being a list."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
