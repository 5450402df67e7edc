"""What durability costs: rounds of a trial with the SuperLink's database and without.

    python -m primia_bench.rounds.durability --output benchmarks/results/rounds_durability.json

Three SuperNodes behind TLS on loopback, 11.2 million parameters; the two take turns. Seconds of a
round, its training and validation included, which are the same in both.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from primia_bench.machine import describe_machine, publish
from primia_bench.rounds.small_runs import RoundCosts, overrides

ROOT = Path(__file__).resolve().parents[3]
STORES = {"database": "true", "memory": "false"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4, help="of each run; the first is left out")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    found: dict[str, list[float]] = {store: [] for store in STORES}
    for _ in range(args.repeats):
        for store, durable in STORES.items():
            with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
                run = Path(folder) / "run"
                given = overrides(
                    run, sites=args.sites, rounds=args.rounds, secure=args.secure, model=args.model
                )
                command = [sys.executable, "-m", "primia_flwr.cli.main", "federation", "trial"]
                command += [*given, f"deployment.durable={durable}"]
                subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
                found[store] += RoundCosts.read(run, sites=args.sites).seconds
            sys.stderr.write(f"{store}: {json.dumps(found[store])}\n")
    medians = {store: round(statistics.median(values), 3) for store, values in found.items()}
    publish(
        {
            "benchmark": "rounds_durability",
            "settings": {k: v for k, v in vars(args).items() if k != "output"},
            "median_round_seconds": medians,
            "database / memory": round(medians["database"] / medians["memory"], 3),
            "rounds": found,
            "machine": describe_machine(),
        },
        args.output,
    )


if __name__ == "__main__":
    main()
