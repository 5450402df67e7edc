"""Simulated rounds beside Flower's own plain train and evaluate: seconds outside training.

    python -m primia_bench.rounds.simulated --output benchmarks/results/rounds_simulated.json

Five sites and 11.2 million parameters in 62 arrays. Flower's client adds a constant, so all of its
round is outside training. Ours trains on one batch of 8 images and validates; what is counted is a
round's seconds without those in which a site trains. Flower's evaluation is an exchange of its own,
ours is part of the round. The arms take turns, so that a busy machine meets all alike; medians.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_bench.rounds.small_runs import RoundCosts, overrides
from primia_bench.secagg.federation_rounds import Rounds, flower_simulation

ROOT = Path(__file__).resolve().parents[3]
GOALS = {"secure": 1.3, "plain": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5, help="of each run; the first is left out")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--more", nargs="*", default=[], help="overrides of our runs")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    arms: dict[str, Callable[[Path], dict[str, list[float]]]] = {
        "flower": lambda folder: _flowers(args, folder),
        "plain": lambda folder: _ours(args, folder, secure=False),
        "secure": lambda folder: _ours(args, folder, secure=True),
    }
    found: dict[str, dict[str, list[float]]] = {name: {} for name in arms}
    for _ in range(args.repeats):
        for name, arm in arms.items():
            with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
                for key, values in arm(Path(folder) / "run").items():
                    found[name].setdefault(key, []).extend(values)
            sys.stderr.write(f"{name}: {json.dumps(_medians(found[name]))}\n")
    publish({**_document(args, found), "machine": describe_machine()}, args.output)


def _document(args: argparse.Namespace, found: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    medians = {name: _medians(values) for name, values in found.items()}
    flowers = medians["flower"]["train"] + medians["flower"]["evaluate"]
    ratios = {name: round(medians[name]["outside"] / flowers, 3) for name in GOALS}
    return {
        "benchmark": "rounds_simulated",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "outside training / Flower's plain train and evaluate": ratios,
        "goals": GOALS,
        "holds": {name: ratios[name] <= goal for name, goal in GOALS.items()},
        "medians": medians,
        "all": found,
    }


def _medians(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(each), 3) for name, each in values.items()}


def _flowers(args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    rounds = Rounds()
    flower_simulation(args, rounds, False, folder)
    return {"train": rounds.later, "evaluate": rounds.evaluate}


def _ours(args: argparse.Namespace, folder: Path, *, secure: bool) -> dict[str, list[float]]:
    given = overrides(folder, sites=args.sites, rounds=args.rounds, secure=secure, model=args.model)
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *given, *args.more]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    costs = RoundCosts.read(folder, sites=args.sites)
    cpu = sum(after[:2]) - sum(before[:2])
    return {
        "seconds": costs.seconds,
        "outside": costs.outside,
        "processor_seconds_of_the_run": [round(cpu, 2)],
    }


if __name__ == "__main__":
    main()
