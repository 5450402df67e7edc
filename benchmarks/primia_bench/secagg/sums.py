"""What a sum must be: over whom, and how near to the float64 weighted mean.

Half the entries of the updates are uniform within the clip. The other half are such that the
rounding of all clients goes the same way by 0.499 of a step, which the bound must still cover.

Bound: (|S| / 2) step / rho, rho = sum_S w_k / w_max. On top comes what `FixedPoint` states for
its float64 arithmetic, twice, because the reference is float64 too: 2^-18 of the bound and
2^-49 of clip / rho. A mean that is handed out as float32 may be off by another 2^-24 of itself.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primia_bench.secagg.rounds import STEPS, Lost, Round, answering
from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.payload.layout import WEIGHT, Layout, Number
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.parties import LEAST_SURVIVORS

CLIP = 1.0
MAX_WEIGHT = 10**7
SHIFT = 0.499


@dataclass(frozen=True)
class Ratios:
    """The largest error of a mean over what is allowed.

    `uniform`, `alike`: of either half of the entries, decoded as float64. `float32`: of all of
    them in the mean that is handed out.
    """

    uniform: float = 0.0
    alike: float = 0.0
    float32: float = 0.0

    def worst(self, other: "Ratios") -> "Ratios":
        """Return the larger of each."""
        return Ratios(
            max(self.uniform, other.uniform),
            max(self.alike, other.alike),
            max(self.float32, other.float32),
        )


INFINITE = Ratios(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Inputs:
    """What clients put into a sum: updates, each (entries,) float64, and weights."""

    layout: Layout
    updates: Mapping[str, NDArray[np.float64]]
    weights: Mapping[str, int]

    @classmethod
    def draw(
        cls, weights: Mapping[str, int], entries: int, generator: np.random.Generator
    ) -> "Inputs":
        """Draw the updates of clients with these weights."""
        layout = Layout(entries, [Number(WEIGHT)], CLIP, MAX_WEIGHT, len(weights))
        updates = {}
        for name, weight in weights.items():
            unit = layout.fixed_point.step * MAX_WEIGHT / weight
            uniform = generator.uniform(-CLIP, CLIP, entries // 2)
            whole = np.floor(generator.uniform(0, CLIP / unit - 1, entries - entries // 2))
            updates[name] = np.concatenate([uniform, (whole + SHIFT) * unit])
        return cls(layout, updates, weights)

    def payload(self, name: str) -> list[Vector]:
        """Return a client's vectors."""
        return self.layout.encode(self.updates[name], {WEIGHT: [self.weights[name]]})

    def compare(self, totals: Sequence[Vector], survivors: Collection[str]) -> Ratios:
        """Compare sums with what they are to be; `INFINITE` where the weights' sum is wrong."""
        weight_sum = sum(self.weights[name] for name in survivors)
        if self.layout.numbers_of(totals)[WEIGHT] != [weight_sum]:
            return INFINITE
        weighted = [self.updates[name] * self.weights[name] for name in survivors]
        reference = np.sum(weighted, axis=0) / weight_sum
        mean, rho = np.empty_like(reference), weight_sum / MAX_WEIGHT
        self.layout.fixed_point.decode(totals[0], rho, mean)  # type: ignore[arg-type]
        handed_out = self.layout.mean_of(totals, weight_sum)
        bound = self.layout.error_bound(len(survivors), weight_sum)
        allowed = bound * (1 + 2**-18) + 2**-49 * CLIP / rho
        errors, half = np.abs(mean - reference) / allowed, len(reference) // 2
        rounded = np.abs(handed_out - reference) / (allowed + 2**-24 * np.abs(reference))
        return Ratios(float(errors[:half].max()), float(errors[half:].max()), float(rounded.max()))


def expected_survivors(names: Collection[str], lost: Lost) -> tuple[str, ...] | None:
    """Return over whom the sum must be; None where the instance must be given up.

    From the design alone: more than half of n + 1, of the n that sent keys, stay to the end, and
    sign where one of them dropped out; at least three are in the sum.
    """
    left = {step: answering(names, lost, step) for step in STEPS}
    threshold = (len(left["keys"]) + 1) // 2 + 1
    heard, everybody = left["vectors"], left["vectors"] == left["shares"]
    if len(heard) < max(threshold, LEAST_SURVIVORS) or len(left["unmask"]) < threshold:
        return None
    if not everybody and len(left["signatures"]) < threshold:
        return None
    return tuple(sorted(heard))


@dataclass(frozen=True)
class Verdict:
    """How an instance ended. `ratios`: None where it was given up. `right`: as it had to end."""

    survivors: tuple[str, ...]
    ratios: Ratios | None
    right: bool


def judge(one: Round, inputs: Inputs, expected: tuple[str, ...] | None) -> Verdict:
    """Run an instance and judge its end.

    A sum must be over those expected and within its bound. To give up is right where that is
    expected and fewer than a threshold of shares of any secret reached the server.
    """
    try:
        totals = one.run()
    except ProtocolError:
        hidden = one.exposed < max(one.server.threshold, 1)
        return Verdict((), None, expected is None and hidden)
    survivors = one.server.survivors
    ratios = inputs.compare(totals, survivors)
    within = max(ratios.uniform, ratios.alike, ratios.float32) <= 1
    return Verdict(survivors, ratios, survivors == expected and within)
