"""What a plan takes of correlated randomness: all that the crypto provider is told of a network.

It comes from a party, so everything is checked before anything is computed or allocated from it.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.plan import Geometry, Plan, Shape, num_compared

MAX_BYTES = 1 << 20
_MAX_LAYERS = 1000
_MAX_ENTRIES = 1 << 28


@dataclass(frozen=True)
class Product:
    """One linear layer: which opening it reads, its weight's shape, its geometry."""

    opening: int
    weight_shape: Shape
    shape: Shape
    geometry: Geometry | None


@dataclass(frozen=True)
class Compared:
    """One comparison step: how many, in a ring of how many bits."""

    count: int
    bits: int


@dataclass(frozen=True)
class CorrelationSpec:
    """Shapes of what is opened, the products, the comparisons, each in the order of the plan.

    `audit`: every comparison is checked.
    """

    openings: tuple[Shape, ...]
    products: tuple[Product, ...]
    comparisons: tuple[Compared, ...]
    audit: bool = False

    @classmethod
    def of(cls, plan: Plan) -> "CorrelationSpec":
        """Return what a plan takes."""
        return cls(
            tuple(step.shape for step in plan.openings),
            tuple(Product(s.opening, s.weight_shape, s.shape, s.geometry) for s in plan.linears),
            tuple(
                Compared(num_compared(step), bits)
                for step, bits in zip(plan.comparisons, plan.compare_bits, strict=True)
            ),
            plan.audit,
        )

    def to_bytes(self) -> bytes:
        """Return JSON, always the same for the same needs."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "CorrelationSpec":
        """Undo `to_bytes` of a stranger.

        Raises
        ------
        ProtocolError
            If it is not what `to_bytes` gives, or asks for more than any network here needs.
        """
        try:
            values = json.loads(raw)
            spec = cls(
                tuple(_shape(shape) for shape in values["openings"]),
                tuple(_product(product) for product in values["products"]),
                tuple(Compared(**entry) for entry in values["comparisons"]),
                values["audit"],
            )
            if len(raw) <= MAX_BYTES and spec.to_bytes() == raw:
                spec._check()
                return spec
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise ProtocolError(
            f"a request for randomness of {len(raw)} bytes is not as this version writes it; do "
            "all parties run the same version of primia_flwr?"
        )

    def _check(self) -> None:
        layers = len(self.openings) + len(self.products) + len(self.comparisons)
        if layers > _MAX_LAYERS or type(self.audit) is not bool:
            raise ValueError
        for shape in self.openings:
            _check_entries(shape)
        for product in self.products:
            _check_entries(product.weight_shape)
            _check_entries(product.shape)
            source = self.openings[_index(product.opening, len(self.openings))]
            if output_shape(source, product) != product.shape:
                raise ValueError
        for compared in self.comparisons:
            _check_entries((compared.count,))
            if type(compared.bits) is not int or not 8 <= compared.bits <= 64:
                raise ValueError


def output_shape(source: Shape, product: Product) -> Shape:
    """Return the shape of a product over a value of shape `source`.

    Raises
    ------
    ValueError
        If the two do not fit.
    """
    out, inner, *kernel = product.weight_shape
    geometry = product.geometry
    if geometry is None:
        if kernel or len(source) != 2 or source[1] != inner:
            raise ValueError
        return (source[0], out)
    if len(kernel) != 2 or len(source) != 4 or source[1] != inner * geometry.groups:
        raise ValueError
    if out % geometry.groups:
        raise ValueError
    sizes = [
        (source[2 + i] + 2 * geometry.padding[i] - geometry.dilation[i] * (kernel[i] - 1) - 1)
        // geometry.stride[i]
        + 1
        for i in range(2)
    ]
    return (source[0], out, *sizes)


def _product(values: dict[str, Any]) -> Product:
    geometry = values["geometry"]
    if geometry is not None:
        names = ("stride", "padding", "dilation")
        pairs = {name: _pair(geometry[name], 0 if name == "padding" else 1) for name in names}
        geometry = Geometry(**pairs, groups=_positive(geometry["groups"]))
    shapes = _shape(values["weight_shape"]), _shape(values["shape"])
    return Product(values["opening"], *shapes, geometry)


def _pair(values: list[Any], least: int) -> tuple[int, int]:
    first, second = values
    for value in (first, second):
        if type(value) is not int or not least <= value <= 64:
            raise ValueError
    return first, second


def _shape(values: list[Any]) -> Shape:
    if not 1 <= len(values) <= 4:
        raise ValueError
    return tuple(_positive(value) for value in values)


def _positive(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError
    return value


def _index(value: Any, length: int) -> int:
    if type(value) is not int or not 0 <= value < length:
        raise ValueError
    return value


def _check_entries(shape: Shape) -> None:
    if not all(type(side) is int and side >= 1 for side in shape):
        raise ValueError
    if math.prod(shape) > _MAX_ENTRIES:
        raise ValueError
