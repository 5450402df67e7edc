"""Measure the rows of the review's table and write its page.

Every row trains on the same synthetic patients, test set, sites, first weights and image passes,
three splits, three seeds; then with lying and with failing sites, with the coordinator killed once,
and with more sites. The whole takes hours, `--quick` (one split, one seed, six rows) a few
minutes. A cell whose settings are unchanged is taken from `--output`, a run from `--work`.

    python -m primia_bench.review --work outputs/review --output results/review.json
    python -m primia_bench.review --work outputs/review --quick
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish, save
from primia_bench.review.cells import Size, rows
from primia_bench.review.measured import Bench
from primia_bench.review.page import page
from primia_bench.review.patients import SPLITS
from primia_bench.review.picture import draw
from primia_bench.review.store import Store
from primia_bench.review.systems import NOT_RUN, SYSTEMS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and attacks")
    parser.add_argument("--quick", action="store_true", help="one split, one seed, six rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--more-sites", type=int, default=20)
    parser.add_argument(
        "--many-sites", type=int, nargs=3, default=[100, 960, 3], metavar="N",
        help="sites, their patients together, and rounds",
    )  # fmt: skip
    parser.add_argument("--failing", type=float, default=0.1, help="share of a round's sites")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--size", type=int, default=32, help="pixels along each side")
    parser.add_argument("--jobs", type=int, default=1, help="measurements at once")
    parser.add_argument("--minutes", type=float, default=0, help="nothing is begun after them")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        help="measure what has these words in its row, arm, split and seed",
    )
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("--page", default="", help="also write the page, with its picture beside")
    given = parser.parse_args()
    publish(found := review(given), given.output)
    if given.page:
        Path(given.page).write_text(page(found), encoding="utf-8")
        draw(found, Path(given.page).with_suffix(".svg"))


def review(given: argparse.Namespace) -> dict[str, Any]:
    """Return the measured rows."""
    bench = _bench(given)
    systems = [system for system in SYSTEMS if system.quick or not given.quick]
    splits, seeds = (SPLITS[:1], [1]) if given.quick else (given.splits, given.seeds)
    size = Size(
        splits, seeds, given.more_sites, given.failing, stressed=not given.quick,
        many_sites=tuple(given.many_sites), only=given.only,
    )  # fmt: skip
    asked = ("sites", "rounds", "patients", "size", "more_sites", "many_sites", "failing")

    def written(found: dict[str, Any]) -> dict[str, Any]:
        return {
            "benchmark": "review",
            **{key: getattr(given, key) for key in asked},
            "splits": list(splits),
            "seeds": list(seeds),
            "rows": found,
            "not_run": NOT_RUN,
            "machine": describe_machine(),
        }

    store = Store(Path(given.output) if given.output else None)
    found = rows(
        bench, systems, size, store, jobs=given.jobs, say=_say,
        keep=lambda so_far: save(written(so_far), given.output),
    )  # fmt: skip
    return written(found)


def _bench(given: argparse.Namespace) -> Bench:
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * given.minutes if given.minutes else math.inf
    return Bench(work, given.rounds, given.sites, given.size, given.patients, until)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
