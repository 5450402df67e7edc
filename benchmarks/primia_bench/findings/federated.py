"""Area under the ROC curve of each finding: secure federated training beside pooled training.

Five findings on synthetic radiographs, some labels unknown, three sites. Each seed is one
`primia train` with secure aggregation; `centralised` is the baseline of the same run, on the same
test images. What the sites' binned scores say of the best round stands beside it, with the largest
error that the bins allow.

    python -m primia_bench.findings.federated --seeds 1 2 3 --output out.json
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from primia_bench.machine import describe_machine, publish, save
from primia_flwr.runs.metadata import read_json
from primia_flwr.tasks.findings import BINS, SCORES
from primia_flwr.tasks.findings.counts import areas_of

_BOUND = 0.01


def main() -> None:
    """Train one seed after the other; what is done stands in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--size", type=int, default=64, help="pixels along each side")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "findings_federated",
        "machine": describe_machine(),
        **{key: getattr(args, key) for key in ("sites", "patients", "size", "rounds")},
        "runs": [],
    }
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            result["runs"].append(_figures(_train(Path(folder), seed, args), seed))
        save(result, args.output)
    gaps = [run["federated"]["auc"] - run["centralised"]["auc"] for run in result["runs"]]
    result["mean_gap"] = mean(gaps)  # federated minus centralised
    result["within_bound"] = mean(gaps) >= -_BOUND
    result["bound"] = _BOUND
    publish(result, args.output)


def _train(folder: Path, seed: int, args: argparse.Namespace) -> Path:
    run = folder / "run"
    names = ",".join(f"site-{number}" for number in range(1, args.sites + 1))
    settings = (
        "experiment=multilabel", f"output_dir={run}", f"seed={seed}", "quiet=true",
        f"federation.sites=[{names}]", f"federation.min_sites={args.sites}",
        f"federation.rounds={args.rounds}", f"data.synthetic.patients={args.patients}",
        f"data.image_size={args.size}", f"data.cache_dir={folder / 'cache'}",
        "baselines=[centralised]", "training.threads=1", "tracking=disabled",
    )  # fmt: skip
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *settings]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return run


def _figures(run: Path, seed: int) -> dict[str, Any]:
    metrics, facts = read_json(run / "metrics.json"), read_json(run / "run.json")
    return {
        "seed": seed,
        "federated": _areas(metrics["federated"]),
        "centralised": _areas(metrics["centralised"]),
        "validation_of_the_sites": _summed(facts),
        "test_images": metrics["federated"]["n"],
        "seconds": metrics["seconds"],
    }


def _areas(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "auc": found["auc"],
        "auc_of_finding": {name: one["auc"] for name, one in found["per_finding"].items()},
    }


def _summed(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the areas of the sites' summed scores, and the largest errors of them."""
    validation = facts.get("validation")
    if not validation:
        return {}
    scores = np.array(validation["counts"][SCORES], np.int64).reshape(-1, 2, BINS)
    areas, errors = areas_of(scores)
    return {
        name: {"auc": float(area), "largest_error": float(error)}
        for name, area, error in zip(facts["classes"], areas, errors, strict=True)
    }


if __name__ == "__main__":
    main()
