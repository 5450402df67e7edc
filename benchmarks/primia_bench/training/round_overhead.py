"""Seconds of a round that no site spends training, for 3 and for 10 simulated sites.

Runs the real thing (SuperLink, simulation engine, ResNet-18 updates) with as little training
as there can be, and reads `seconds_outside_training` of `history.csv`. The first round pays for
the processes' start and is reported apart.

    python -m primia_bench.training.round_overhead --sites 3 10 --rounds 4 --output results.json
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_flwr.cli.train.train import run
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse
from primia_flwr.storage import plain_csv


def measure(sites: int, rounds: int, folder: Path) -> dict[str, Any]:
    names = ",".join(f"site-{index + 1}" for index in range(sites))
    overrides = [
        f"output_dir={folder}",
        f"data.cache_dir={folder}/cache",
        f"federation.sites=[{names}]",
        f"federation.rounds={rounds}",
        "aggregation=plain",
        f"data.synthetic.patients={40 * sites}",
        "data.image_size=32",
        "training.sync_every_n_batches=1",
        "training.batch_size=8",
        "tracking=disabled",
        "quiet=true",
    ]
    run(parse(Experiment, compose("config", overrides)))
    with (folder / "history.csv").open() as file:
        rows = list(plain_csv.DictReader(file))
    outside = [float(row["seconds_outside_training"]) for row in rows]
    return {
        "sites": sites,
        "rounds": rounds,
        "megabytes_down_a_round": float(rows[-1]["bytes_down"]) / 1e6,
        "first_round_seconds": outside[0],
        "median_seconds_outside_training": statistics.median(outside[1:]),
        "seconds_outside_training": outside[1:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    arguments = parser.parse_args()
    results = []
    for sites in arguments.sites:
        with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
            results.append(measure(sites, arguments.rounds, Path(folder) / "run"))
            print(json.dumps(results[-1]), file=sys.stderr)
    document = {"benchmark": "round_overhead", "machine": describe_machine(), "results": results}
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
