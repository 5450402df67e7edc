"""The part of a model's card on how large the numbers get that encrypted inference compares.

They are measured on validation images by the model's owner, for the owner: they may tell
something of those images, so a data owner is not sent them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from primia_flwr.errors import CheckpointError

_MAX_COMPARISONS = 1000
_WRITER = "primia inference calibrate"


@dataclass(frozen=True)
class Precision:
    """How a model in fixed point compares with itself in the clear, on its owner's images.

    `largest_score`: in the clear. `largest_difference`: of a score. `changed`: images of another
    class; `ties_changed`: those that had two nearly equal ones. `wrong_cuts`: numbers that are
    expected to be cut wrongly for an image.
    """

    largest_score: float
    largest_difference: float
    changed: int
    ties_changed: int
    wrong_cuts: float

    def __post_init__(self) -> None:
        for item in fields(self):
            found = getattr(self, item.name)
            if not (_is_magnitude(found) if item.type is float else _is_count(found, 0)):
                raise CheckpointError(
                    f"activation_bounds.precision.{item.name}={repr(found)[:80]}; expected what "
                    f"{_WRITER} writes: finite magnitudes, whole numbers of images; run it again"
                )

    @classmethod
    def from_dict(cls, values: object) -> "Precision":
        """Undo `dataclasses.asdict`.

        Raises
        ------
        CheckpointError
            If it is anything else.
        """
        names = {item.name for item in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise CheckpointError(
                f"activation_bounds.precision of a model card; expected {', '.join(sorted(names))};"
                f" run {_WRITER} again"
            )
        return cls(**values)


@dataclass(frozen=True)
class ActivationBounds:
    """One entry for each comparison step, in the order of the plan; checked when it is made.

    `images`: on how many it was measured. `spare_bits`: how many `bits` leaves, at least.
    `layers`: names of what is compared. `largest`: its magnitude, of reals. `bits`: of the
    smallest ring, 8 to 64 where encrypted inference can use it. `precision`: None in cards of an
    earlier version, which did not compare; such a model counts as not calibrated.
    """

    images: int
    spare_bits: int
    layers: tuple[str, ...]
    largest: tuple[float, ...]
    bits: tuple[int, ...]
    precision: Precision | None = None

    def __post_init__(self) -> None:
        count = len(self.largest)
        if not (count <= _MAX_COMPARISONS and len(self.layers) == len(self.bits) == count):
            raise CheckpointError(
                f"activation bounds of {len(self.layers)} layers, {count} magnitudes, "
                f"{len(self.bits)} rings; expected one of each, for at most {_MAX_COMPARISONS} "
                f"comparisons; run {_WRITER} again"
            )
        for name, found, good in (
            ("images", self.images, _is_count(self.images, 1)),
            ("spare_bits", self.spare_bits, _is_count(self.spare_bits, 0)),
            ("layers", self.layers, all(type(name) is str for name in self.layers)),
            ("largest", self.largest, all(_is_magnitude(value) for value in self.largest)),
            ("bits", self.bits, all(_is_count(value, 8) for value in self.bits)),
        ):
            if not good:
                raise CheckpointError(
                    f"activation_bounds.{name}={repr(found)[:80]}; expected what {_WRITER} "
                    "writes: finite magnitudes, whole numbers of images and bits; run it again"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; no key for what there is not."""
        values = asdict(self)
        if self.precision is None:
            del values["precision"]
        return values

    @classmethod
    def from_dict(cls, values: object) -> "ActivationBounds":
        """Undo `to_dict`.

        Raises
        ------
        CheckpointError
            If it is anything else.
        """
        names = {item.name for item in fields(cls)} - {"precision"}
        if not isinstance(values, Mapping) or set(values) - {"precision"} != names:
            raise CheckpointError(
                f"activation_bounds of a model card; expected {', '.join(sorted(names))}; take the "
                f"key out and run {_WRITER} again"
            )
        lists = {name: values[name] for name in ("layers", "largest", "bits")}
        if not all(isinstance(entry, list | tuple) for entry in lists.values()):
            raise CheckpointError(
                "activation_bounds of a model card; expected lists of layers, largest and bits; "
                f"take the key out and run {_WRITER} again"
            )
        rest = values.get("precision")
        precision = None if rest is None else Precision.from_dict(rest)
        layers, largest, bits = map(tuple, lists.values())
        return cls(values["images"], values["spare_bits"], layers, largest, bits, precision)


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _is_magnitude(value: object) -> bool:
    return type(value) is float and math.isfinite(value) and value >= 0
