"""A network as the two parties compute it: a flat list of steps on shares, all shapes known.

Model owner and data owner lower the same architecture to the same plan; the crypto provider sees
no more of it than how much correlated randomness each step takes.

Values are named by numbers; value 0 is the batch of images. Every value but a convolution's own
product has `ACTIVATION_BITS` fractional bits.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Open:
    """The data owner masks its share of a value and sends it: once for all that reads it."""

    source: int
    opening: int
    shape: Shape


@dataclass(frozen=True)
class Geometry:
    """Of a convolution: two numbers each, as PyTorch has them; a linear layer has none."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Linear:
    """Product of an opened value with weights that the model owner knows, plus its bias.

    `weight`: index and shape, (out, in, kh, kw) of a convolution or (out, in).
    """

    opening: int
    target: int
    weight: int
    weight_shape: Shape
    shape: Shape
    geometry: Geometry | None = None


@dataclass(frozen=True)
class Relu:
    """max(x, 0) of each entry. `comparison`: its number among all comparison steps."""

    source: int
    target: int
    comparison: int
    shape: Shape


@dataclass(frozen=True)
class MaxLevel:
    """One level of a tree of maxima along an axis.

    Cell i of the result is the larger of cells `first[i]` and `second[i]` of the source, or cell
    `first[i]` itself where `second[i]` is -1.
    """

    source: int
    target: int
    comparison: int
    axis: int
    first: tuple[int, ...]
    second: tuple[int, ...]
    shape: Shape

    @property
    def pairs(self) -> tuple[int, ...]:
        """Cells of the result that are a maximum of two."""
        return tuple(i for i, other in enumerate(self.second) if other >= 0)


@dataclass(frozen=True)
class Average:
    """Means over windows, divided by the number of cells in each.

    `rows`, `columns`: (start, end) of each window along the two axes.
    """

    source: int
    target: int
    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]
    shape: Shape


@dataclass(frozen=True)
class Add:
    """Sum of two values."""

    left: int
    right: int
    target: int
    shape: Shape


@dataclass(frozen=True)
class Flatten:
    """The same numbers, in the same order, in another shape, e.g. (N, C, H, W) as (N, C H W)."""

    source: int
    target: int
    shape: Shape


@dataclass(frozen=True)
class Pad:
    """Zeros around each map; `cells`: on the left, on the right, above and below."""

    source: int
    target: int
    cells: tuple[int, int, int, int]
    shape: Shape


@dataclass(frozen=True)
class Fork:
    """A batch twice: as it is, then less `limit`. One comparison step takes both."""

    source: int
    target: int
    limit: int
    shape: Shape


@dataclass(frozen=True)
class Difference:
    """The first half of a batch less its second half."""

    source: int
    target: int
    shape: Shape


@dataclass(frozen=True)
class Enlarge:
    """Each cell of a map repeated `factor` times along both axes."""

    source: int
    target: int
    factor: int
    shape: Shape


@dataclass(frozen=True)
class Concat:
    """The channels of several values, one behind the other."""

    sources: tuple[int, ...]
    target: int
    shape: Shape


@dataclass(frozen=True)
class Reveal:
    """The model owner sends its share: the data owner alone learns the value."""

    source: int
    shape: Shape


Step = (
    Open | Linear | Relu | MaxLevel | Average | Add | Flatten | Pad | Fork | Difference
    | Enlarge | Concat | Reveal
)  # fmt: skip
Comparison = Relu | MaxLevel


@dataclass(frozen=True)
class Plan:
    """All steps, in order, and the bits of each comparison's ring.

    `compare_bits`: by comparison; n means exact for |x| < 2^(n-1) in units of the fixed point.
    `audit`: scores come out only if every compared number was in its ring.
    """

    input_shape: Shape
    steps: tuple[Step, ...]
    compare_bits: tuple[int, ...]
    audit: bool = False

    @property
    def openings(self) -> tuple[Open, ...]:
        """The values that are opened for linear layers."""
        return tuple(step for step in self.steps if isinstance(step, Open))

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers."""
        return tuple(step for step in self.steps if isinstance(step, Linear))

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The steps that compare."""
        return tuple(step for step in self.steps if isinstance(step, Relu | MaxLevel))

    @property
    def flights(self) -> int:
        """One-way delays from the masked image to the scores.

        The image goes up; each comparison is an answer and a reply to it, which carries what the
        next linear layers need; the scores come down.
        """
        return 2 + 2 * len(self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; `kind` names the type of a step."""
        steps = [{"kind": type(step).__name__, **asdict(step)} for step in self.steps]
        return {
            "input_shape": list(self.input_shape),
            "steps": steps,
            "compare_bits": list(self.compare_bits),
            "audit": self.audit,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, hexadecimal: both parties must have the same."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def num_compared(step: Comparison) -> int:
    """Return how many comparisons a step makes."""
    if isinstance(step, Relu):
        return math.prod(step.shape)
    return math.prod(step.shape) // step.shape[step.axis] * len(step.pairs)
