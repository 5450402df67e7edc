"""The case study on the real radiographs: federated against centralised and local training.

Runs `primia train experiment=pneumonia` (ResNet-18, 112 x 112, three hospitals, all with as many
image passes, a test set of other patients), or reads a finished run, and writes what a reader
needs to judge it: scores, differences, configuration, versions, machine. No image and no file
name of the data is written.

    python -m primia_bench.training.pneumonia --data ../shared/data/chest_xray --output results.json
    python -m primia_bench.training.pneumonia --run outputs/... --output results.json

Data: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY 4.0.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.stats import bootstrap
from sklearn.metrics import matthews_corrcoef

from primia_bench.machine import describe_machine, publish
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage import plain_csv
from primia_flwr.tasks.classes.judge import JUDGE

_FACTS = ("versions", "git_commit", "config_hash", "seed", "rounds", "best_round", "parameters")
_SCORES = ("accuracy", "balanced_accuracy", "mcc", "roc_auc", "n")
_NAMES_OF_THIS_MACHINE = ("root", "manifest", "cache_dir")


def train(data: Path, overrides: list[str]) -> Path:
    """Run the experiment in a temporary folder and return it."""
    folder = Path(tempfile.mkdtemp(prefix="primia-pneumonia-")) / "run"
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", "experiment=pneumonia"]
    subprocess.run([*command, f"data.root={data}", f"output_dir={folder}", *overrides], check=True)
    return folder


def summarise(run_dir: Path) -> dict[str, Any]:
    """Return the figures of a finished run."""
    run, metrics = read_json(run_dir / "run.json"), read_json(run_dir / "metrics.json")
    models = {"federated": metrics["federated"], "centralised": metrics["centralised"]}
    models |= {f"{site} local": scores for site, scores in metrics["local"].items()}
    mcc = {name: scores["mcc"] for name, scores in models.items()}
    local = [value for name, value in mcc.items() if name.endswith("local")]
    return {
        "benchmark": "pneumonia",
        "scores": {name: {key: s[key] for key in _SCORES} for name, s in models.items()},
        "per_class": {name: s["per_class"] for name, s in models.items()},
        "federated_minus_centralised_mcc": round(mcc["federated"] - mcc["centralised"], 4),
        "federated_minus_best_local_mcc": round(mcc["federated"] - max(local), 4),
        "intervals_95": intervals(run_dir),
        "sites": run["sites"],
        "test": run["test"],
        "seconds": run["seconds"],
        "seconds_outside_training": _outside_training(run_dir),
        **{key: run.get(key) for key in _FACTS},
        "config": _config(run_dir),
        "machine": describe_machine(),
    }


def intervals(run_dir: Path) -> dict[str, list[float]]:
    """Return percentile bootstrap intervals (95 %, patients resampled, 1,000 times, seed 0).

    Of the federated model's MCC on the test set, and of its difference to the centralised one's.
    """
    federated = read_predictions(run_dir / "predictions.csv", JUDGE)
    centralised = read_predictions(run_dir / "predictions-centralised.csv", JUDGE)
    labels = np.array(federated.labels)
    guesses = [np.array(p.outputs).argmax(axis=1) for p in (federated, centralised)]
    patients, of = np.unique(federated.patients, return_inverse=True)
    images = [np.flatnonzero(of == patient) for patient in range(len(patients))]

    def mcc(drawn: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
        rows = np.concatenate([images[int(patient)] for patient in drawn])
        return float(matthews_corrcoef(labels[rows], guess[rows]))

    def interval(statistic: Callable[[NDArray[np.int64]], float]) -> list[float]:
        found = bootstrap(
            (np.arange(len(patients)),),
            statistic,
            vectorized=False,
            n_resamples=1000,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        return [round(float(found.low), 3), round(float(found.high), 3)]

    return {
        "federated_mcc": interval(lambda drawn: mcc(drawn, guesses[0])),
        "federated_minus_centralised_mcc": interval(
            lambda drawn: mcc(drawn, guesses[0]) - mcc(drawn, guesses[1])
        ),
    }


def _outside_training(run_dir: Path) -> list[float]:
    with (run_dir / "history.csv").open() as file:
        return [float(row["seconds_outside_training"]) for row in plain_csv.DictReader(file)]


def _config(run_dir: Path) -> Any:
    config: Any = OmegaConf.to_container(OmegaConf.load(run_dir / "config.yaml"))
    for key in _NAMES_OF_THIS_MACHINE:
        config["data"].pop(key)
    return {key: config[key] for key in ("data", "model", "training", "strategy", "federation")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of the radiographs: train it now")
    source.add_argument("--run", type=Path, help="a finished run")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("overrides", nargs="*", help="e.g. training.precision=bf16")
    arguments = parser.parse_args()
    run_dir = arguments.run or train(arguments.data, arguments.overrides)
    publish(summarise(run_dir), arguments.output)


if __name__ == "__main__":
    main()
