"""How much a model loses where sites send a part of their updates, with secure aggregation.

Usage: python -m primia_bench.topologies.sharing [--shares 1 0.1 0.01] [--by random change]
    [--seeds 1 2 3] [--rounds 20] [--sites 3] [--output benchmarks/results/sharing.json]
Shokri and Shmatikov's question (2015), on the digits: MCC on test images with an interval over the
seeds, and the bytes that a site sends in a round.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from primia_bench.machine import describe_machine
from primia_bench.topologies.digits import overrides
from primia_flwr.runs.metadata import read_json


def train(work: Path, share: float, by: str, seed: int, args: argparse.Namespace) -> Path:
    """Run `primia train`, and return the run's folder."""
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
        f"seed={seed}",
        "quiet=true",
        f"output_dir={folder}",
    ]
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def row(share: float, by: str, folders: list[Path], sites: int) -> dict[str, Any]:
    """Return the figures of the runs of all seeds."""
    scores = [float(read_json(f / "metrics.json")["federated"]["mcc"]) for f in folders]
    *_, last = csv.DictReader((folders[0] / "history.csv").open())
    found: dict[str, Any] = {
        "share": share,
        "by": by,
        "mcc": [round(score, 4) for score in scores],
        "mean": round(float(np.mean(scores)), 4),
        "bytes_up": round(int(last["bytes_up"]) / sites),
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
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for share in args.shares:
            for by in args.by if share < 1 else args.by[:1]:
                runs = [train(Path(work), share, by, seed, args) for seed in args.seeds]
                rows.append(row(share, by, runs, args.sites))
                print(json.dumps(rows[-1]), flush=True)
    if args.output:
        asked = {k: v for k, v in vars(args).items() if k != "output"}
        values = {"machine": describe_machine(), "asked": asked, "rows": rows}
        args.output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
