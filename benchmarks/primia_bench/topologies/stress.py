"""Many sites of which some fail at random points: plain, secure, and each its own model.

Usage: python -m primia_bench.topologies.stress [--sites 100] [--rounds 10] [--shares 0 0.1 0.3]
    [--ways plain secure ensemble] [--output benchmarks/results/stress.json]
The failing of Amir-Khalili et al. 2017, on the digits: each site and round anew, before, in or
after its training.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine
from primia_bench.topologies.digits import overrides
from primia_bench.topologies.in_memory import Failing, final_mcc, train
from primia_flwr.errors import PrimiaError


def measure(work: Path, way: str, share: float, args: argparse.Namespace) -> dict[str, Any]:
    """Run one federation; return its figures, or why it ended."""
    folder = work / f"{way}-{share:g}"
    names = ",".join(f"site-{n + 1}" for n in range(args.sites))
    words = [
        *overrides(work / "digits"),
        f"federation.sites=[{names}]",
        f"federation.min_sites={max(3, args.sites // 2)}",
        f"federation.rounds={args.rounds}",
        "federation.round_timeout=1",
        "strategy=ensemble" if way == "ensemble" else f"aggregation={way}",
        f"aggregation.allow_other_survivors={str(args.other_lists).lower()}",
        "training.optimizer=sgd",
        "training.learning_rate=0.05",
        f"training.local_epochs={args.epochs}",
        f"output_dir={folder}",
    ]
    began = time.monotonic()
    failing = Failing(share, seed=1)
    found: dict[str, Any] = {"way": way, "failing": share}
    try:
        experiment, state, grid = train(folder, words, failing)
    except PrimiaError as error:
        return {**found, "ended": False, "reason": str(error)[:300]}
    return {
        **found,
        "ended": True,
        "rounds": state.round,
        "seconds": round(time.monotonic() - began, 1),
        "lost": grid.lost,
        "mcc": final_mcc(experiment, folder),
    }


def main() -> None:
    """Measure, print a line each, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.1, 0.3])
    parser.add_argument("--ways", nargs="+", default=["plain", "secure", "ensemble"])
    parser.add_argument("--other-lists", action="store_true", help="allow_other_survivors=true")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for way in args.ways:
            for share in args.shares:
                rows.append(measure(Path(work), way, share, args))
                print(json.dumps(rows[-1]), flush=True)
    asked = {k: v for k, v in vars(args).items() if k != "output"}
    if args.output:
        values = {"machine": describe_machine(), "asked": asked, "rows": rows}
        args.output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
