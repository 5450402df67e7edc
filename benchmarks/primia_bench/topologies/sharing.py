"""How much a model loses where sites send a part of their updates, with secure aggregation.

Usage: python -m primia_bench.topologies.sharing [--shares 1 0.1 0.01] [--by random change]
    [--seeds 1 2 3] [--rounds 20] [--sites 3] [--output benchmarks/results/sharing.json]
Shokri and Shmatikov's question (2015), on the digits: MCC on test images with an interval over the
seeds, and the bytes that a site sends in a round.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from primia_bench.machine import describe_machine
from primia_bench.topologies.digits import overrides
from primia_bench.topologies.in_memory import Failing, final_mcc, train
from primia_flwr.storage import plain_csv


@dataclass(frozen=True)
class Run:
    """What a run gave: MCC on test images, and the bytes that a site sent in its last round."""

    mcc: float
    bytes_up: int


def measure(work: Path, share: float, by: str, seed: int, args: argparse.Namespace) -> Run:
    """Train one federation in this process."""
    folder = work / f"{share:g}-{by}-{seed}"
    names = ",".join(f"site-{n + 1}" for n in range(args.sites))
    words = [
        *overrides(work / "digits"),
        f"federation.sites=[{names}]",
        f"federation.min_sites={args.sites}",
        f"federation.rounds={args.rounds}",
        "aggregation=secure",
        f"aggregation.share={share:g}",
        f"aggregation.share_by={by}",
        "training.optimizer=sgd",
        "training.learning_rate=0.05",
        f"model.norm={args.norm}",
        f"seed={seed}",
        f"output_dir={folder}",
    ]
    experiment, _, _ = train(folder, words, Failing(0.0, seed))
    *_, last = plain_csv.DictReader((folder / "history.csv").open())
    return Run(final_mcc(experiment, folder), round(int(last["bytes_up"]) / args.sites))


def row(share: float, by: str, runs: list[Run]) -> dict[str, Any]:
    """Return the figures of the runs of all seeds."""
    scores = [run.mcc for run in runs]
    found: dict[str, Any] = {
        "share": share,
        "by": by,
        "mcc": scores,
        "mean": round(float(np.mean(scores)), 4),
        "bytes_up": runs[0].bytes_up,
    }
    if len(scores) > 1 and np.std(scores) > 0:
        freedom, error = len(scores) - 1, stats.sem(scores)
        low, high = stats.t.interval(0.95, freedom, loc=np.mean(scores), scale=error)
        found |= {"low": round(float(low), 4), "high": round(float(high), 4)}
    return found


def main() -> None:
    """Measure, print a line each, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shares", type=float, nargs="+", default=[1, 0.1, 0.01])
    parser.add_argument("--by", nargs="+", default=["random", "change"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--norm", default="batch", choices=["batch", "group"])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for share in args.shares:
            for by in args.by if share < 1 else args.by[:1]:
                runs = [measure(Path(work), share, by, seed, args) for seed in args.seeds]
                rows.append(row(share, by, runs))
                print(json.dumps(rows[-1]), flush=True)
                write(rows, args)


def write(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Write what is measured so far."""
    if args.output:
        asked = {k: v for k, v in vars(args).items() if k != "output"}
        values = {"machine": describe_machine(), "asked": asked, "rows": rows}
        args.output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
