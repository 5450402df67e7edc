"""The cells of the table, in the order in which they are measured: one seed whole, then others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    played,
    recorded_words,
    seen_by,
)
from primia_bench.review.patients import FLIPPED, SPLITS
from primia_bench.review.store import NO_TIME, NOT_RUN, Store, key_of
from primia_bench.review.systems import APP_MOVES, GATE_MOVES, LOCAL, POOLED, System

RUNS, SEEN = "runs", "seen"
_ATTACK = ("images=3", "iterations=200")


@dataclass(frozen=True)
class Size:
    """How much is measured. `stressed`: with lies, failures, kills, more sites and attacks, too.

    `many_sites`: how many, how many patients they have together, and in how many rounds. `only`: a
    cell is measured if one of these is in its name; known ones are taken anyway.
    """

    splits: Sequence[str]
    seeds: Sequence[int]
    more_sites: int
    failing: float
    stressed: bool
    many_sites: tuple[int, int, int] = (100, 960, 3)
    only: Sequence[str] = ("",)


@dataclass(frozen=True)
class Cell:
    """One measurement of a row. `arm`: what it is of; `facts`: what else is said of it."""

    system: System
    arm: str
    measured: Callable[..., Any]
    of: tuple[Any, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The hash of all settings that determine what is measured."""
        bench, system, *rest = self.of
        seen = self.arm == SEEN
        return key_of(
            {
                "measured": self.measured.__name__,
                "bench": [bench.rounds, bench.sites, bench.size, bench.patients],
                "system": recorded_words(system) if seen else system.overrides,
                "baseline": system.baseline,
                "updates": 0 if seen else system.updates,
                "of": rest,
            }
        )

    def is_of(self, words: Sequence[str]) -> bool:
        """Say whether one of some words is in its name: the row's, the arm's, split and seed."""
        facts = ", ".join(f"{key} {value}" for key, value in self.facts.items())
        name = f"{self.system.name}, {self.arm}, {facts}"
        return any(word in name for word in words)

    def found(self) -> dict[str, Any]:
        """Return what is measured, or why it is not."""
        try:
            return dict(self.measured(*self.of))
        except RuntimeError as error:
            return {NOT_RUN: str(error)}


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
    sites, patients, rounds = size.many_sites
    many = replace(bench, sites=sites, patients=patients, rounds=rounds)
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
    for system in (one for one in systems if not one.baseline):
        yield Cell(system, "moves", played, (bench, system, [*GATE_MOVES, *APP_MOVES]))
    for system in sorted(systems, key=lambda one: one.private):  # whose noise costs most time
        if system.baseline != LOCAL:
            yield Cell(system, "many_sites", measure, (many, system, SPLITS[0], seed))


def rows(
    bench: Bench,
    systems: Sequence[System],
    size: Size,
    store: Store,
    *,
    jobs: int,
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Measure the cells that the store has not, `jobs` at once; return the rows by name.

    `keep` is given all rows so far after each measurement.
    """
    asked = [*cells(bench, systems, size)]
    found = {i: known for i, cell in enumerate(asked) if (known := store.known(cell.key))}
    _remember_pooled(bench, asked, found)
    say(f"{len(found)} of {len(asked)} cells are known")
    missing = [i for i in range(len(asked)) if i not in found and asked[i].is_of(size.only)]
    found |= {i: {NOT_RUN: NO_TIME} for i in range(len(asked)) if i not in {*found, *missing}}
    with ThreadPoolExecutor(jobs) as pool:
        values = pool.map(Cell.found, [asked[i] for i in missing])
        for number, (index, value) in enumerate(zip(missing, values, strict=True), 1):
            cell = asked[index]
            found[index] = store.add(cell.key, value)
            keep(_rows(systems, asked, found))
            say(f"{number} of {len(missing)}: {cell.system.name}, {cell.arm}")
    return _rows(systems, asked, found)


def _remember_pooled(bench: Bench, asked: Sequence[Cell], found: Mapping[int, Any]) -> None:
    """Note the known scores of pooled training: whoever is compared with them needs no run."""
    for index, value in found.items():
        cell = asked[index]
        if cell.system.baseline == POOLED and "mcc" in value:
            own, _, split, seed = cell.of
            bench.pooled[own.sites, split, seed] = value["mcc"]


def _rows(
    systems: Sequence[System], asked: Sequence[Cell], found: Mapping[int, Any]
) -> dict[str, Any]:
    rows: dict[str, Any] = {
        one.name: {"source": one.source, "trusted": one.trusted, RUNS: [], SEEN: []}
        for one in systems
    }
    for index in sorted(found):
        cell, row = asked[index], rows[asked[index].system.name]
        if cell.arm in (RUNS, SEEN):
            row[cell.arm].append({**cell.facts, **found[index]})
        else:
            row[cell.arm] = found[index]
    return rows
