"""How large the compared numbers of a model get, and whether a ring of n bits is enough.

A comparison is exact for |x| < 2^(n-1) in units of 2^-f, but for the few next to -2^(n-1) that
`fss.digits.guard` counts. Nobody sees x at run time, so the bounds are measured beforehand on
validation images, in the clear by the model's owner, and must leave `_SPARE_BITS`. A maximum
compares a difference, which needs one bit more.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from primia_flwr.errors import CheckpointError, ConfigError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.fss.digits import guard
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.plan import Fork, MaxLevel, Plan
from primia_flwr.models.activation_bounds import ActivationBounds, Precision

_OLD_FILE = "activation-bounds.json"
_SPARE_BITS = 4
_MOST_BITS = 64
LEAST_BITS = 8  # also of a model that compares nothing


def measure(model: nn.Module, batches: Iterable[Tensor]) -> list[float]:
    """Return, by comparison step, the largest magnitude of what it compares, over all images.

    `model`: in evaluation mode. `batches`: normalised images, (N, C, H, W) float.

    Raises
    ------
    ConfigError
        If there are no images, or the model gives numbers that are not finite.
    """
    largest: dict[str, float] = {}
    lowered = None
    for images in batches:
        lowered = lowered or lower(model, (1, *images.shape[1:]))
        Watch(lowered.graph, largest).run(lowered.front(images))
    if lowered is None:
        raise ConfigError("there are no images to measure; expected at least one")
    return [largest[name] for name in lowered.node_of_comparison]


class Watch(fx.Interpreter):
    """Runs the graph in the clear and keeps the largest magnitude that each node gives."""

    def __init__(self, graph: fx.GraphModule, largest: dict[str, float]) -> None:
        super().__init__(graph)
        self._largest = largest

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and look at what it gives."""
        with torch.inference_mode():
            result = super().run_node(n)
            if isinstance(result, Tensor):
                value = float(result.abs().max())
                if not math.isfinite(value):
                    raise ConfigError(
                        f"layer {n.name} gives a number that is not finite on one of the images; "
                        "expected finite ones; is the model trained, and are the images its kind?"
                    )
                self._largest[n.name] = max(value, self._largest.get(n.name, 0.0))
        return result


def bounds_of(
    lowered: Lowered, largest: Sequence[float], *, images: int, precision: Precision | None = None
) -> ActivationBounds:
    """Return what stands in the model's card; `largest` as `measure` returns it.

    Raises
    ------
    ConfigError
        If no ring is large enough.
    """
    bits = tuple(needed_bits(largest, lowered.plan))
    if max(bits, default=0) > _MOST_BITS:
        raise ConfigError(
            f"what the model compares reaches {max(largest):.4g}, which takes a ring of "
            f"{max(bits)} bits; expected at most {_MOST_BITS}; train it anew, with weight decay; "
            "nothing was written"
        )
    return ActivationBounds(
        images=images,
        spare_bits=_SPARE_BITS,
        layers=lowered.node_of_comparison,
        largest=tuple(largest),
        bits=bits,
        precision=precision,
    )


def ring_for(bounds: ActivationBounds | None, plan: Plan, *, safe: int) -> int:
    """Return the ring of a model: what its calibration recommends, or `safe` if it has none.

    Raises
    ------
    CheckpointError
        If the bounds are another model's.
    """
    if bounds is None or bounds.precision is None:
        return safe
    return max(needed_bits(bounds.largest, plan), default=LEAST_BITS)


def refuse_old_file(folder: Path) -> None:
    """Refuse bounds that stand beside the card, where nothing ties them to the weights.

    Raises
    ------
    ConfigError
        If there are such.
    """
    if (folder / _OLD_FILE).exists():
        raise ConfigError(
            f"{folder / _OLD_FILE} is of an earlier version and is not read; expected the bounds "
            "in the model's card; run primia inference calibrate again, or delete the file"
        )


def needed_bits(bounds: Sequence[float], plan: Plan) -> list[int]:
    """Return, by comparison step, the least n that leaves `_SPARE_BITS`.

    Raises
    ------
    CheckpointError
        If the bounds are another model's.
    """
    if len(bounds) != len(plan.comparisons):
        raise CheckpointError(
            f"the model card has bounds of {len(bounds)} comparisons; expected "
            f"{len(plan.comparisons)}, those of this model; run primia inference calibrate again"
        )
    less = {step.target: step.limit for step in plan.steps if isinstance(step, Fork)}
    return [
        _bits(bound + less.get(step.source, 0), isinstance(step, MaxLevel))
        for bound, step in zip(bounds, plan.comparisons, strict=True)
    ]


def check_bounds(bounds: ActivationBounds, plan: Plan) -> None:
    """Refuse rings that are too small for the model; what it needs is computed anew.

    Raises
    ------
    ConfigError
        Naming the smallest ring that is large enough.
    CheckpointError
        If the bounds are another model's.
    """
    needed = needed_bits(bounds.largest, plan)
    if any(bits > have for bits, have in zip(needed, plan.compare_bits, strict=True)):
        raise ConfigError(
            f"compare_bits={min(plan.compare_bits)}; expected at least {max(needed)} for this "
            f"model: what it compares reaches {max(bounds.largest):.4g}, and {_SPARE_BITS} bits "
            "stay spare"
        )


def _bits(bound: float, difference: bool) -> int:
    """Return the least n whose ring has all numbers of magnitude bound 2^f 2^SPARE_BITS."""
    units = max(bound, 2.0**-ring.ACTIVATION_BITS) * 2.0 ** (ring.ACTIVATION_BITS + _SPARE_BITS)
    bits = max(math.floor(math.log2(units)) + 2 + difference, LEAST_BITS)
    fits = bits > _MOST_BITS or units * (1 + difference) <= 2 ** (bits - 1) - guard(bits)
    return bits if fits else bits + 1
