"""A model that is trained with differential privacy and then served encrypted, on radiographs.

Trains a network without normalisation (`model.norm=none`) with `privacy=dp_sgd` on the radiographs,
three hospitals, secure aggregation; then serves it with `primia inference trial` (three processes
over TLS on this machine) on test images of patients that it was never trained on, and writes how
many get the same class as in the clear, and how far the scores are apart. Bound: 999 of 1,000, and
0.02. No image and no file name of the data is written.

    python -m primia_bench.privacy.then_encrypted --data ../shared/data/chest_xray --output out.json

Data: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY 4.0.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from primia_bench.inference.agreement import run_trial, summarise
from primia_bench.machine import publish
from primia_bench.privacy.utility import DELTA, RATES, arm_overrides, primia, private
from primia_flwr.runs.metadata import read_json

ARM = "norm_free"


def train(folder: Path, args: argparse.Namespace) -> Path:
    """Train with `primia train` as the benchmark of utility does, and return the run's folder."""
    return primia(
        [
            "experiment=pneumonia", f"data.root={args.data}", f"seed={args.seed}",
            f"model={args.model}", f"data.image_size={args.size}", "training.label_smoothing=0",
            "training.weight_decay=0", "training.warmup=0", "training.schedule=log_cosine",
            "training.optimizer=adamw",
            *private(args.epsilon, args), *arm_overrides(ARM, Path(), private=True),
            f"training.learning_rate={args.rate}", f"training.min_learning_rate={args.rate / 10}",
        ],
        folder,
    )  # fmt: skip


def report(run: Path, agreement: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return what is published."""
    scores = read_json(run / "metrics.json")["federated"]
    keys = ("batch", "steps", "rounds", "size", "seed")
    return {
        **agreement,
        "benchmark": "private_then_encrypted",
        "training": {
            "privacy": read_json(run / "model.json")["privacy"],
            "epsilon": args.epsilon,
            "delta": DELTA,
            "learning_rate": args.rate,
            **{key: getattr(args, key) for key in keys},
            **{key: scores[key] for key in ("roc_auc", "mcc", "n")},
            "seconds": read_json(run / "run.json")["seconds"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs")
    parser.add_argument("--run", type=Path, help="folder of the training; done now if it is empty")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=128, help="expected patients of a step")
    parser.add_argument("--steps", type=int, default=6, help="steps a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rate", type=float, default=RATES[ARM], help="learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=1000, help="of the run's own test images")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    run = args.run or Path(tempfile.mkdtemp(prefix="primia-private-encrypted-")) / "run"
    if not (run / "model.json").is_file():
        train(run, args)
    agreement = summarise(run, run_trial(run, args.images, []))
    publish(report(run, agreement, args), args.output)


if __name__ == "__main__":
    main()
