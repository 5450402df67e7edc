"""How large the compared numbers of a model get, and whether a ring of n bits is enough.

A comparison is exact for |x| < 2^(n-1) in units of 2^-f. Nobody sees x at run time, so the bounds
are measured beforehand on validation images, in the clear by the model's owner, and must leave
`SPARE_BITS`. A maximum compares a difference, which needs one bit more.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from primia_flwr.crypto import ring
from primia_flwr.crypto.lowering import lower
from primia_flwr.crypto.plan import MaxLevel, Plan
from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.models.saved import write_atomically

FILE = "activation-bounds.json"
SPARE_BITS = 4


def measure(model: nn.Module, batches: Iterable[Tensor]) -> list[float]:
    """Return, by comparison step, the largest magnitude of what it compares, over all images.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    batches : iterable of Tensor
        Normalised images, (N, C, H, W) float.
    """
    largest: dict[str, float] = {}
    lowered = None
    for images in batches:
        lowered = lowered or lower(model, (1, *images.shape[1:]))
        _Watch(lowered.graph, largest).run(images)
    if lowered is None:
        raise ConfigError("there are no images to measure; expected at least one")
    return [largest[name] for name in lowered.node_of_comparison]


class _Watch(fx.Interpreter):
    """Runs the graph in the clear and keeps the largest magnitude that each node gives."""

    def __init__(self, graph: fx.GraphModule, largest: dict[str, float]) -> None:
        super().__init__(graph)
        self._largest = largest

    def run_node(self, n: fx.Node) -> Any:
        with torch.inference_mode():
            result = super().run_node(n)
            if isinstance(result, Tensor):
                value = float(result.abs().max())
                self._largest[n.name] = max(value, self._largest.get(n.name, 0.0))
        return result


def write_bounds(folder: Path, bounds: list[float], *, images: int, plan: Plan) -> None:
    """Write the bounds beside the model's card.

    Raises
    ------
    CheckpointError
        If the folder cannot be written; an earlier file survives.
    """
    values = {
        "images": images,
        "largest": bounds,
        "bits_needed": needed_bits(bounds, plan),
    }
    try:
        write_atomically(folder / FILE, (json.dumps(values, indent=1) + "\n").encode())
    except OSError as error:
        raise CheckpointError(
            f"{folder / FILE} cannot be written ({error.strerror}); expected the model's folder to "
            "be writable"
        ) from None


def read_bounds(folder: Path) -> tuple[list[float], int] | None:
    """Return a model's bounds and on how many images; None where nobody has measured them.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return [float(value) for value in values["largest"]], int(values["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); expected what primia inference calibrate wrote; "
            "run it again"
        ) from None


def needed_bits(bounds: list[float], plan: Plan) -> list[int]:
    """Return, by comparison step, the least n that leaves `SPARE_BITS`.

    Raises
    ------
    CheckpointError
        If the bounds are another model's.
    """
    if len(bounds) != len(plan.comparisons):
        raise CheckpointError(
            f"{FILE} has {len(bounds)} bounds; expected {len(plan.comparisons)}, those of this "
            "model; run primia inference calibrate again"
        )
    return [
        _bits(bound, isinstance(step, MaxLevel))
        for bound, step in zip(bounds, plan.comparisons, strict=True)
    ]


def check_bounds(bounds: list[float], plan: Plan) -> None:
    """Refuse rings that are too small for the model.

    Raises
    ------
    ConfigError
        Naming the smallest ring that is large enough.
    """
    needed = needed_bits(bounds, plan)
    if any(bits > have for bits, have in zip(needed, plan.compare_bits, strict=True)):
        raise ConfigError(
            f"compare_bits={min(plan.compare_bits)}; expected at least {max(needed)} for this "
            f"model: what it compares reaches {max(bounds):.4g}, and {SPARE_BITS} bits stay spare"
        )


def _bits(bound: float, difference: bool) -> int:
    """Return n with bound 2^f 2^SPARE_BITS < 2^(n-1), or 2^(n-2) for a difference."""
    units = max(bound, 2.0**-ring.ACTIVATION_BITS) * 2.0 ** (ring.ACTIVATION_BITS + SPARE_BITS)
    return max(math.floor(math.log2(units)) + 2 + difference, 8)
