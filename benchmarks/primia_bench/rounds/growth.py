"""How a simulated round grows with sites and with parameters: seconds outside training, memory.

    python -m primia_bench.rounds.growth --output benchmarks/results/rounds_growth.json

Plain rounds of one batch a site. Sites grow with the smallest model of the table, parameters with
three sites and the models that the table has. The slope is that of the least squares line of a
round's seconds outside training; memory is the largest sum of the resident memory of all processes
of a run, looked at once a second, in which memory that they share counts for each.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from primia_bench.machine import describe_machine, publish, save
from primia_bench.rounds.small_runs import RoundCosts, overrides

ROOT = Path(__file__).resolve().parents[3]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sites", type=int, nargs="*", default=[3, 10, 30, 100])
    parser.add_argument("--models", nargs="*", default=["simpleconv", "resnet18", "resnet50"])
    parser.add_argument("--rounds", type=int, default=4, help="of each run; the first is left out")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    by_sites: list[dict[str, Any]] = []
    by_parameters: list[dict[str, Any]] = []
    document: dict[str, Any] = {
        "benchmark": "rounds_growth",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "sites": by_sites,
        "parameters": by_parameters,
        "machine": describe_machine(),
    }
    for sites in args.sites:
        by_sites.append(_measure(sites, "simpleconv", args.rounds))
        save(document, args.output)
    for model in args.models:
        by_parameters.append(_measure(3, model, args.rounds))
        save(document, args.output)
    document["seconds_a_site"] = _slope(by_sites, "sites")
    document["seconds_a_million_parameters_and_site"] = _slope(by_parameters, "millions", 3)
    publish(document, args.output)


def _measure(sites: int, model: str, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
        run = Path(folder) / "run"
        given = overrides(run, sites=sites, rounds=rounds, secure=False, model=model)
        given += [f"data.synthetic.patients={12 * sites}"]
        command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *given]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        memory = _largest_memory(child)
        if child.returncode:
            raise SystemExit(f"the run with {sites} sites and {model} failed")
        costs = RoundCosts.read(run, sites=sites)
        entries = int(json.loads((run / "run.json").read_text())["parameters"])
    row = {
        "sites": sites,
        "model": model,
        "millions": round(entries / 1e6, 3),
        "median_seconds_outside_training": round(statistics.median(costs.outside), 3),
        "outside": costs.outside,
        "median_seconds": round(statistics.median(costs.seconds), 3),
        "megabytes_a_round": round(costs.sent / 1e6, 1),
        "memory_mib": memory,
    }
    sys.stderr.write(json.dumps(row) + "\n")
    return row


def _largest_memory(child: "subprocess.Popen[bytes]") -> int:
    """Wait for a process; return the largest sum of its family's resident memory, in MiB."""
    root, largest = psutil.Process(child.pid), 0
    while child.poll() is None:
        now = 0
        for process in [root, *_descendants(root)]:
            try:
                now += process.memory_info().rss
            except psutil.Error:
                continue
        largest = max(largest, now)
        time.sleep(1.0)
    return largest >> 20


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def _slope(rows: list[dict[str, Any]], key: str, share: int = 1) -> float | None:
    if len(rows) < 2:
        return None
    seconds = [row["median_seconds_outside_training"] for row in rows]
    return round(float(np.polyfit([row[key] for row in rows], seconds, 1)[0]) / share, 4)


if __name__ == "__main__":
    main()
