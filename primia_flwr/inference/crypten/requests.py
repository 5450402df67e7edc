"""Correlated randomness that CrypTen asks for: its closed table, its request as bytes, its algebra.

| operation     | operands         | result c                                             |
| ------------- | ---------------- | ---------------------------------------------------- |
| mul, matmul,  | a, b additive    | a op b, additive                                     |
| conv2d        |                  |                                                      |
| square        | a additive       | a * a, additive                                      |
| and           | a, b by XOR      | a & b, by XOR                                        |
| wraps         | a additive       | how often a_0 + a_1 leaves the signed range, additive|
| bit           | a, one bit, XOR  | a, additive                                          |

Everything of party 0 and the operands of party 1 are streams of the party's seed; their label is
the whole request with its number, so that no two requests share a mask even if the parties do not
agree on what was asked. Only party 1's share of c is sent: a function of a, b and c_0.

Source: Beaver 1991; Knott et al. 2021 (CrypTen), section 3 and appendix.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic.randomness import Stream

_Shape = tuple[int, ...]

_MAX_ENTRIES = 1 << 27  # of an operand, of a result, and of what a convolution unfolds per image
_MAX_DIMENSIONS = 8
MAX_REQUEST_BYTES = 11 + 4 * 2 * _MAX_DIMENSIONS + 14
_HEAD = struct.Struct("<QBBB")  # number, operation, dimensions of both operands
_GEOMETRY = struct.Struct("<7H")
PLAIN = (1, 1, 0, 0, 1, 1, 1)


@dataclass(frozen=True)
class Request:
    """One request, checked: it can be answered within bounds.

    Parameters
    ----------
    number : int
        Of the request since the session began, from 0; each is answered once.
    operation : str
        Of the table.
    left, right : tuple of int
        Shapes of the operands, `right` empty where there is one only.
    geometry : tuple of seven int
        Of conv2d: stride, padding and dilation (rows, columns), groups.

    Raises
    ------
    ProtocolError
        If the operation is not in the table, shapes do not fit together or are too big.
    """

    number: int
    operation: str
    left: _Shape
    right: _Shape = ()
    geometry: tuple[int, ...] = PLAIN

    def __post_init__(self) -> None:
        rule = _RULES.get(self.operation)
        if rule is None:
            raise ProtocolError(
                f"operation={self.operation!r:.60} of a request; expected one of {list(_RULES)}"
            )
        if self.geometry != PLAIN and self.operation != "conv2d":
            raise ProtocolError(f"geometry={self.geometry} of {self.operation}; expected none")
        if rule.operands == 1 and self.right:
            raise ProtocolError(f"{self.operation} with two operands; expected one")
        for shape in self.operands:
            if len(shape) > _MAX_DIMENSIONS or not all(0 < side < 1 << 32 for side in shape):
                raise self._refused(f"expected up to {_MAX_DIMENSIONS} sides of 1 or more")
            self._check_entries(math.prod(shape))
        self._check_entries(math.prod(self.result))
        if self.operation == "conv2d":
            self._check_entries(math.prod(self.result[2:]) * math.prod(self.right[1:]))

    @cached_property
    def operands(self) -> list[_Shape]:
        """Shapes of the operands."""
        return [self.left, self.right][: _RULES[self.operation].operands]

    @cached_property
    def result(self) -> _Shape:
        """Shape of the result."""
        try:
            return _RULES[self.operation].shape(self)
        except ValueError as error:
            raise self._refused(str(error).partition("\n")[0]) from None

    def to_bytes(self) -> bytes:
        """Return the one encoding of this request."""
        code = _NAMES.index(self.operation)
        sides = (*self.left, *self.right)
        head = _HEAD.pack(self.number, code, len(self.left), len(self.right))
        tail = _GEOMETRY.pack(*self.geometry) if self.operation == "conv2d" else b""
        return head + struct.pack(f"<{len(sides)}I", *sides) + tail

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Request":
        """Read a request.

        Raises
        ------
        ProtocolError
            If it is malformed, or not one that can be answered.
        """
        if len(raw) < _HEAD.size:
            raise ProtocolError(f"a request of {len(raw)} bytes; expected {_HEAD.size} or more")
        number, code, left, right = _HEAD.unpack_from(raw)
        if code >= len(_NAMES):
            raise ProtocolError(f"operation {code} of a request; expected 0 to {len(_NAMES) - 1}")
        end = _HEAD.size + 4 * (left + right)
        convolves = _NAMES[code] == "conv2d"
        if len(raw) != end + convolves * _GEOMETRY.size or max(left, right) > _MAX_DIMENSIONS:
            raise ProtocolError(
                f"a request of {len(raw)} bytes for {_NAMES[code]} with {left} and {right} "
                "dimensions; do all parties run the same version of primia_flwr?"
            )
        sides = struct.unpack_from(f"<{left + right}I", raw, _HEAD.size)
        geometry = _GEOMETRY.unpack_from(raw, end) if convolves else PLAIN
        return cls(number, _NAMES[code], sides[:left], sides[left:], geometry)

    def draw(self, seed: bytes) -> list[Tensor]:
        """Return a party's shares of the operands, int64."""
        bits = _RULES[self.operation].bits
        drawn = [_words(seed, self, place, shape) for place, shape in enumerate(self.operands)]
        return drawn if bits == 64 else [words & (2**bits - 1) for words in drawn]

    def draw_result(self, seed: bytes) -> Tensor:
        """Return party 0's share of the result, int64."""
        return _words(seed, self, len(self.operands), self.result)

    def correction(self, seeds: tuple[bytes, bytes]) -> Tensor:
        """Return party 1's share of the result, int64."""
        rule = _RULES[self.operation]
        shares = [self.draw(seed) for seed in seeds]
        if self.operation == "wraps":
            return _wraps(shares[0][0], shares[1][0]) - self.draw_result(seeds[0])
        together = torch.bitwise_xor if rule.operands_by_xor else torch.add
        clear = rule.compute(self, *(together(*pair) for pair in zip(*shares, strict=True)))
        apart = torch.bitwise_xor if rule.result_by_xor else torch.sub
        return apart(clear, self.draw_result(seeds[0]))

    def _check_entries(self, entries: int) -> None:
        if entries > _MAX_ENTRIES:
            raise self._refused(f"{entries} entries; expected at most {_MAX_ENTRIES} at a time")

    def _refused(self, why: str) -> ProtocolError:
        return ProtocolError(
            f"{self.operation} of {self.left} and {self.right} was asked for: {why}; do all "
            "parties run the same version and model?"
        )


@dataclass(frozen=True)
class _Rule:
    """`shape`: the result's. `compute`: the clear result of clear operands. `bits`: of those."""

    shape: Callable[[Request], _Shape]
    compute: Callable[..., Tensor]
    operands: int = 2
    bits: int = 64
    operands_by_xor: bool = False
    result_by_xor: bool = False


def _same(request: Request) -> _Shape:
    return request.left


def _broadcast(request: Request) -> _Shape:
    return np.broadcast_shapes(request.left, request.right)


def _product(request: Request) -> _Shape:
    (rows, inner), (again, columns) = request.left, request.right
    if inner != again:
        raise ValueError("expected (i, j) and (j, k)")
    return rows, columns


def _convolved(request: Request) -> _Shape:
    (images, inputs, *image), (outputs, per_group, *kernel) = request.left, request.right
    *geometry, groups = request.geometry
    stride, padding, dilation = geometry[0:2], geometry[2:4], geometry[4:6]
    if len(image) != 2 or len(kernel) != 2 or min(*stride, *dilation, groups) < 1:
        raise ValueError("expected four sides each; stride, dilation and groups from 1")
    if inputs != groups * per_group or outputs % groups:
        raise ValueError(f"expected channels that fit {groups} groups")
    lengths = [
        (image[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    if min(lengths) < 1:
        raise ValueError("expected a kernel no larger than the padded image")
    return images, outputs, *lengths


def _conv2d(request: Request, left: Tensor, right: Tensor) -> Tensor:
    stride, padding, dilation = (request.geometry[i : i + 2] for i in (0, 2, 4))
    return torch.conv2d(left, right, None, stride, padding, dilation, request.geometry[6])


def _wraps(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 where the sum is above the signed range, -1 where it is below, else 0."""
    total = first + second
    above = (first >= 0) & (second >= 0) & (total < 0)
    below = (first < 0) & (second < 0) & (total >= 0)
    return above.long() - below.long()


def _words(seed: bytes, request: Request, place: int, shape: Sequence[int]) -> Tensor:
    stream = Stream(seed, "crypten", request.to_bytes().hex(), place)
    return torch.from_numpy(stream.uint64(tuple(shape)).view(np.int64))


_RULES = {
    "mul": _Rule(_broadcast, lambda _, a, b: a * b),
    "matmul": _Rule(_product, lambda _, a, b: torch.matmul(a, b)),
    "conv2d": _Rule(_convolved, _conv2d),
    "square": _Rule(_same, lambda _, a: a * a, operands=1),
    "and": _Rule(_broadcast, lambda _, a, b: a & b, operands_by_xor=True, result_by_xor=True),
    "wraps": _Rule(_same, lambda _, a: a, operands=1),
    "bit": _Rule(_same, lambda _, a: a, operands=1, bits=1, operands_by_xor=True),
}
_NAMES = tuple(_RULES)
