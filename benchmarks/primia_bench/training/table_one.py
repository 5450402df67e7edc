"""Table 1 of Kaissis et al. 2021 (PriMIA), rebuilt: three models, and readers.

Trains the case study with secure aggregation, its centralised baseline, and with plain averaging in
float64, same seed, in a temporary folder, or takes finished runs; adds two SYNTHETIC human
readers, who call classes by the fixed table below and have never seen an image; and writes what
`primia compare` finds. No image and no file name of the data is written.

    python -m primia_bench.training.table_one --data ../shared/data/chest_xray --output results.json
    python -m primia_bench.training.table_one --runs outputs/secure outputs/plain \
        --output results.json
    python -m primia_bench.training.table_one --data synthetic --rounds 2 data.synthetic.patients=90

Demanded: McNemar's p > 0.05 between the secure and the plain model. A large p does not show that
the two are equal; the interval of their difference is given beside it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from primia_bench.machine import describe_machine, publish
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage import plain_csv
from primia_flwr.tasks.classes.judge import JUDGE

BOUND_P = 0.05
SECURE, PLAIN = "secure", "plain"
# Of bacterial, normal, viral: the class called (columns) for each true class (rows). Invented.
SYNTHETIC_READERS = {
    "synthetic reader 1": [[0.75, 0.05, 0.20], [0.05, 0.90, 0.05], [0.30, 0.10, 0.60]],
    "synthetic reader 2": [[0.65, 0.10, 0.25], [0.10, 0.80, 0.10], [0.35, 0.15, 0.50]],
}
_COMMON = ("training.precision=bf16", "tracking=disabled", "quiet=true")
_RUNS = {
    SECURE: ("aggregation=secure", "baselines=[centralised]"),
    PLAIN: (
        "aggregation=plain",
        "strategy.weight_digits=2",
        "aggregation.float_mean=true",
        "baselines=[]",
    ),
}
_FACTS = ("git_commit", "config_hash", "seed", "rounds", "best_round", "strategy", "seconds")
_KEPT = ("images", "patients", "classes", "images_of_class", "figures", "kappa_with_truth")


def train(data: str, name: str, folder: Path, overrides: list[str]) -> Path:
    """Run the case study and return its folder."""
    target = folder / name
    source = ["data=synthetic"] if data == "synthetic" else [f"data.root={data}"]
    settings = ["data.image_size=64", *_COMMON, *_RUNS[name], *overrides]
    primia("train", "experiment=pneumonia", *source, f"output_dir={target}", *settings)
    return target


def primia(*arguments: str) -> dict[str, Any]:
    """Run a command and return its last line."""
    command = [sys.executable, "-m", "primia_flwr.cli.main", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_synthetic_readers(path: Path, predictions: Path, *, seed: int) -> None:
    """Write what two invented readers would have called the images, by their tables of calls.

    Raises
    ------
    SystemExit
        If the classes are others than those of the tables.
    """
    truth = read_predictions(predictions, JUDGE)
    if sorted(truth.names) != ["bacterial", "normal", "viral"]:
        raise SystemExit(f"classes {truth.names}; expected bacterial, normal, viral")
    rng = np.random.default_rng(seed)
    order = sorted(truth.names)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = plain_csv.writer(stream)
        writer.writerow(("file", "reader", "label"))
        for reader, calls in SYNTHETIC_READERS.items():
            for file, label in zip(truth.files, truth.labels, strict=True):
                row = calls[order.index(truth.names[label])]
                writer.writerow((file, reader, order[rng.choice(3, p=row)]))


def table(secure: Path, plain: Path, folder: Path, *, seed: int) -> dict[str, Any]:
    """Compare the runs and the synthetic readers; return the tables and what was demanded."""
    experts, output = folder / "synthetic-readers.csv", folder / "comparison"
    write_synthetic_readers(experts, secure / "predictions.csv", seed=seed)
    primia(
        "compare", f"runs=[{secure},{plain}]", f"names=[{SECURE},{PLAIN}]", f"experts={experts}",
        "baselines=[centralised]", f"output={output}", "quiet=true",
    )  # fmt: skip
    found = read_json(output / "comparison.json")
    pair = next(p for p in found["pairs"] if (p["first"], p["second"]) == (SECURE, PLAIN))
    p = pair["mcnemar"]["p"]
    return {
        "benchmark": "table_one",
        "note": "The human readers are synthetic: drawn from the tables below, seeded.",
        "synthetic_readers": SYNTHETIC_READERS,
        "synthetic_images": found["synthetic"],
        **{key: found[key] for key in _KEPT},
        "pairs": found["pairs"],
        "secure_against_plain": {
            "mcnemar_p": p,
            "mcnemar_p_holm": pair["p_holm"],
            "mcnemar_method": pair["mcnemar"]["method"],
            "accuracy_difference": pair["accuracy_difference"],
            "mcc_difference": pair["mcc_difference"],
            "bound": BOUND_P,
            "holds": p > BOUND_P,
        },
        "runs": {
            name: {key: read_json(path / "run.json").get(key) for key in _FACTS}
            for name, path in ((SECURE, secure), (PLAIN, plain))
        },
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="", help="folder of the radiographs, or synthetic")
    parser.add_argument("--runs", type=Path, nargs=2, metavar=("SECURE", "PLAIN"))
    parser.add_argument("--rounds", type=int, help="instead of the case study's")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic readers")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    parser.add_argument("overrides", nargs="*", help="e.g. seed=2")
    arguments = parser.parse_intermixed_args()
    if bool(arguments.data) == bool(arguments.runs):
        parser.error("expected --data to train now, or --runs with two finished runs")
    more = [f"federation.rounds={arguments.rounds}"] if arguments.rounds else []
    with tempfile.TemporaryDirectory(prefix="primia-table-one-") as name:
        folder = Path(name)
        secure, plain = arguments.runs or (
            train(arguments.data, run, folder, [*more, *arguments.overrides]) for run in _RUNS
        )
        publish(table(secure, plain, folder, seed=arguments.seed), arguments.output)


if __name__ == "__main__":
    main()
