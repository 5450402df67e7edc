"""The first impression: how close the demo ends to training on all images, in time and on disk.

`python -m primia_bench.training.demo --seeds 1 2 3` runs `primia train experiment=demo` for each
seed: test MCC of each model, seconds, CPU seconds of all processes, megabytes of the run's folder.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_flwr.runs.metadata import read_json


def one_run(seed: int, words: list[str]) -> dict[str, Any]:
    """Run the demo once in a folder of its own and return its figures."""
    with tempfile.TemporaryDirectory(prefix="primia-demo-") as folder:
        run, began, before = Path(folder) / "run", time.monotonic(), _cpu_seconds()
        command = [sys.executable, "-m", "primia_flwr.cli.main", "train", "experiment=demo"]
        settings = [f"seed={seed}", "tracking=disabled", "quiet=true", f"output_dir={run}"]
        subprocess.run(
            [*command, *settings, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        metrics = read_json(run / "metrics.json")
        return {
            "seed": seed,
            "federated": metrics["federated"]["mcc"],
            "centralised": metrics["centralised"]["mcc"],
            "local": [scores["mcc"] for scores in metrics["local"].values()],
            "test_images": metrics["test"]["n"],
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(_cpu_seconds() - before, 1),
            "run_megabytes": _megabytes(run),
            "all_megabytes": _megabytes(Path(folder)),
        }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _megabytes(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return round(sum(path.stat().st_size for path in files) / 1e6, 1)


def main() -> None:
    """Run the seeds and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("words", nargs="*", help="what differs from the demo, e.g. model=resnet18")
    arguments = parser.parse_args()
    runs = [one_run(seed, arguments.words) for seed in arguments.seeds]
    behind = [run["centralised"] - run["federated"] for run in runs]
    document = {
        "benchmark": "demo",
        "words": arguments.words,
        "federated_behind_centralised": {"mean": mean(behind), "largest": max(behind)},
        "runs": runs,
        "machine": describe_machine(),
    }
    publish(document, arguments.output)


if __name__ == "__main__":
    main()
