"""Measure the rows of the review's table and write its page.

Every row trains on the same synthetic patients, test set, sites, first weights and image passes,
three splits, three seeds; the whole takes an hour or more, `--quick` (one split, one seed, six
rows) a few minutes. What is finished in `--work` is not done again.

    python -m primia_bench.review --work outputs/review --output results/review.json
    python -m primia_bench.review --work outputs/review --quick
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_bench.review.measured import Bench, measure, seen_by
from primia_bench.review.page import page
from primia_bench.review.patients import FLIPPED, SPLITS, write_patients
from primia_bench.review.picture import draw
from primia_bench.review.systems import NOT_RUN, SYSTEMS, System

_ATTACK = ("images=3", "iterations=200")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and attacks")
    parser.add_argument("--quick", action="store_true", help="one split, one seed, six rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--size", type=int, default=32, help="pixels along each side")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("--page", default="", help="also write the page, with its picture beside")
    given = parser.parse_args()
    publish(found := review(given), given.output)
    if given.page:
        Path(given.page).write_text(page(found), encoding="utf-8")
        draw(found, Path(given.page).with_suffix(".svg"))


def review(given: argparse.Namespace) -> dict[str, Any]:
    """Return the measured rows."""
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    root = write_patients(work, patients=given.patients, seed=0)
    bench = Bench(root, work, given.rounds, given.sites, given.size)
    systems = [system for system in SYSTEMS if system.quick or not given.quick]
    splits, seeds = (SPLITS[:1], [1]) if given.quick else (given.splits, given.seeds)
    rows = {}
    for system in systems:
        rows[system.name] = row(bench, system, splits, seeds, attacked=not given.quick)
        print(json.dumps({system.name: rows[system.name]["runs"]}), file=sys.stderr, flush=True)
    return {
        "benchmark": "review",
        "sites": given.sites,
        "rounds": given.rounds,
        "patients": given.patients,
        "size": given.size,
        "splits": list(splits),
        "seeds": list(seeds),
        "rows": rows,
        "not_run": NOT_RUN,
        "machine": describe_machine(),
    }


def row(
    bench: Bench, system: System, splits: tuple[str, ...], seeds: list[int], *, attacked: bool
) -> dict[str, Any]:
    """Return a row's runs, its answer to flipped labels, and what its parties can rebuild."""
    runs = [_one(bench, system, split, seed) for split in splits for seed in seeds]
    found: dict[str, Any] = {"source": system.source, "trusted": system.trusted, "runs": runs}
    if attacked:
        found["flipped"] = _one(bench, system, FLIPPED, seeds[0])
        found["seen"] = seen_by(bench, system, SPLITS[0], list(_ATTACK))
    return found


def _one(bench: Bench, system: System, split: str, seed: int) -> dict[str, Any]:
    try:
        return measure(bench, system, split, seed)
    except RuntimeError as error:
        return {"split": split, "seed": seed, "not_run": str(error)}


if __name__ == "__main__":
    main()
