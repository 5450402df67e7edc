"""The cells of the table, in the order in which they are measured: one seed whole, then others."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from primia_bench.review.measured import (
    Bench,
    boosted,
    failing,
    killed,
    measure,
    seen_by,
)
from primia_bench.review.patients import FLIPPED, SPLITS
from primia_bench.review.systems import System

RUNS, SEEN = "runs", "seen"
_ATTACK = ("images=3", "iterations=200")


@dataclass(frozen=True)
class Size:
    """How much is measured. `stressed`: with lies, failures, kills, more sites and attacks, too."""

    splits: Sequence[str]
    seeds: Sequence[int]
    more_sites: int
    failing: float
    stressed: bool


@dataclass(frozen=True)
class Cell:
    """One measurement of a row. `arm`: what it is of; `facts`: what else is said of it."""

    system: System
    arm: str
    measured: Callable[..., Any]
    of: tuple[Any, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def found(self) -> dict[str, Any]:
        """Return what is measured, or why it is not."""
        try:
            return {**self.facts, **self.measured(*self.of)}
        except RuntimeError as error:
            return {**self.facts, "not_run": str(error)}


def cells(bench: Bench, systems: Sequence[System], size: Size) -> Iterator[Cell]:
    """Yield the cells."""
    yield from _scores(bench, systems, size.splits, size.seeds[:1])
    if size.stressed:
        yield from _stressed(bench, systems, size)
    yield from _scores(bench, systems, size.splits, size.seeds[1:])


def _scores(
    bench: Bench, systems: Sequence[System], splits: Sequence[str], seeds: Sequence[int]
) -> Iterator[Cell]:
    for seed, split, system in product(seeds, splits, systems):
        facts = {"split": split, "seed": seed}
        yield Cell(system, RUNS, measure, (bench, system, split, seed), facts)


def _stressed(bench: Bench, systems: Sequence[System], size: Size) -> Iterator[Cell]:
    seed, more = size.seeds[0], replace(bench, sites=size.more_sites)
    for system in systems:
        for party, target in system.sees:
            facts = {"party": party, "target": target}
            yield Cell(system, SEEN, seen_by, (bench, system, SPLITS[0], target, _ATTACK), facts)
    for system in systems:
        yield Cell(system, "flipped", measure, (bench, system, FLIPPED, seed))
    for system in (one for one in systems if not one.baseline):
        yield Cell(system, "failing", failing, (bench, system, seed, size.failing))
        yield Cell(system, "killed", killed, (bench, system, seed))
        yield Cell(system, "boosted", boosted, (bench, system, seed))
    for system in systems:
        yield Cell(system, "more_sites", measure, (more, system, SPLITS[0], seed))


def rows(
    bench: Bench, systems: Sequence[System], size: Size, *, jobs: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure all cells, `jobs` at once; return the rows by name."""
    found: dict[str, Any] = {
        one.name: {"source": one.source, "trusted": one.trusted, RUNS: [], SEEN: []}
        for one in systems
    }
    asked = [*cells(bench, systems, size)]
    with ThreadPoolExecutor(jobs) as pool:
        for number, (cell, value) in enumerate(
            zip(asked, pool.map(Cell.found, asked), strict=True), 1
        ):
            row = found[cell.system.name]
            if cell.arm in (RUNS, SEEN):
                row[cell.arm].append(value)
            else:
                row[cell.arm] = value
            say(f"{number} of {len(asked)}: {cell.system.name}, {cell.arm}")
    return found
