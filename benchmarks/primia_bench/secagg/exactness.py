"""The figure "exactness": means within their bound, whoever is lost."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from primia_bench.secagg.rounds import STEPS, Lost, Round, enlist
from primia_bench.secagg.rows import Row, at_most, say
from primia_bench.secagg.sums import MAX_WEIGHT, Inputs, Ratios, expected_survivors, judge

PART = "exactness"


@dataclass(frozen=True)
class Plan:
    """How many sums to compare.

    `every`: numbers of clients of which each choice of losses is run. `drawn`: number of choices
    that are drawn, by number of clients. `one_abort_of`: of the choices among `every` that must
    end in an abort, one of so many is run.
    """

    every: Sequence[int]
    drawn: Mapping[int, int]
    entries: int
    one_abort_of: int


FULL = Plan((3, 4, 5), {10: 60, 30: 25, 100: 8}, entries=2_000, one_abort_of=10)
QUICK = Plan((3,), {10: 5}, entries=200, one_abort_of=20)


def measure(plan: Plan) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the rows, and a table by number of clients."""
    table, worst = [], Ratios()
    for count in sorted({*plan.every, *plan.drawn}):
        line, ratios = _run_all(count, plan)
        worst = worst.worst(ratios)
        table.append({**line, "largest_error_over_bound": asdict(ratios)})
    sums = sum(line["sums"] for line in table)
    aborts = sum(line["aborts"] for line in table)
    wrong = sum(line["wrong_ends"] for line in table)
    rows = [
        at_most(PART, f"error / bound, uniform updates, {sums} sums", worst.uniform, 1),
        at_most(PART, "error / bound, updates that all round the same way", worst.alike, 1),
        at_most(PART, "error / bound, the mean as float32", worst.float32, 1),
        at_most(PART, f"wrong ends of {sums} sums and {aborts} aborts", wrong, 0),
    ]
    return rows, table


def every_loss(names: Sequence[str], one_abort_of: int) -> Iterator[Lost]:
    """Return each choice of who is lost at which step, but of those to abort only some."""
    aborts = 0
    for steps in itertools.product((None, *STEPS), repeat=len(names)):
        lost = {name: step for name, step in zip(names, steps, strict=True) if step}
        if expected_survivors(names, lost) is None:
            aborts += 1
            if aborts % one_abort_of:
                continue
        yield lost


def drawn_losses(names: Sequence[str], cases: int, rng: np.random.Generator) -> Iterator[Lost]:
    """Draw losses at any steps; in four of five cases more than half of the clients stay."""
    tolerated = len(names) - (len(names) // 2 + 1)
    for case in range(cases):
        few = case % 5 < 4
        number = rng.integers(0, tolerated + 1) if few else rng.integers(tolerated + 1, len(names))
        chosen = rng.choice(list(names), number, replace=False)
        yield {str(name): str(rng.choice(STEPS)) for name in chosen}


def _run_all(count: int, plan: Plan) -> tuple[dict[str, Any], Ratios]:
    """Run all cases of a number of clients."""
    members, rng = enlist(count), np.random.default_rng(count)
    names = sorted(members)
    losses: Iterable[Lost] = drawn_losses(names, plan.drawn.get(count, 0), rng)
    if count in plan.every:
        losses = every_loss(names, plan.one_abort_of)
    sums, aborts, wrong, worst = 0, 0, 0, Ratios()
    for lost, weights in _weighted(names, losses, rng):
        inputs = Inputs.draw(weights, plan.entries, rng)
        one = Round(members, inputs.payload, lost)
        verdict = judge(one, inputs, expected_survivors(names, lost))
        wrong += not verdict.right
        sums, aborts = sums + bool(verdict.survivors), aborts + (not verdict.survivors)
        worst = worst.worst(verdict.ratios or Ratios())
    say(f"exactness, {count} clients: {sums} sums, {aborts} aborts, {wrong} wrong, {worst}")
    return {"clients": count, "sums": sums, "aborts": aborts, "wrong_ends": wrong}, worst


def _weighted(
    names: Sequence[str], losses: Iterable[Lost], rng: np.random.Generator
) -> Iterator[tuple[Lost, dict[str, int]]]:
    """Add weights, log-uniform up to the largest; first the least of all, and the largest."""
    yield {}, dict.fromkeys(names, 1)
    yield {}, dict.fromkeys(names, MAX_WEIGHT)
    for lost in losses:
        weights = np.rint(np.exp(rng.uniform(0, math.log(MAX_WEIGHT), len(names))))
        yield lost, {name: int(weight) for name, weight in zip(names, weights, strict=True)}
