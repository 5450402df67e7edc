"""Dice of a U-Net: secure federated, beside pooled, local and private training.

Lung and consolidation on synthetic radiographs. Each arm is a `primia train` with secure
aggregation; `centralised` and `local` are the baselines of the same run, on the same test images.
With 4 and 16 sites it is the table of Sheller et al. 2020, without the arms that hand one model on.

    python -m primia_bench.segmentation.dice --sites 3 --output out.json
    python -m primia_bench.segmentation.dice --sites 4 16 --epsilon 0

Source: Sheller et al. 2020, Federated learning in medicine (institutions train a U-Net together).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from primia_bench.machine import describe_machine, publish, save
from primia_flwr.runs.metadata import read_json

_FIGURES = ("dice", "iou", "hd95")


def main() -> None:
    """Train the arms one after the other; what is done stands in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="*", default=[3])
    parser.add_argument("--private-sites", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=8.0, help="of the private arm; 0: none")
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--size", type=int, default=64, help="pixels along each side")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "segmentation_dice",
        "machine": describe_machine(),
        **{key: getattr(args, key) for key in ("patients", "size", "rounds", "seed")},
        "arms": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for count in args.sites:
            run = _train(Path(folder) / f"sites-{count}", count, args, *_baselines())
            result["arms"][f"{count} sites"] = _arms(run)
            save(result, args.output)
        if args.epsilon:
            run = _train(Path(folder) / "private", args.private_sites, args, *_private(args))
            found = read_json(run / "metrics.json")["federated"]
            privacy = read_json(run / "model.json")["privacy"]
            result["arms"][f"{args.private_sites} sites, private"] = {
                "federated": _figures(found), "privacy": privacy,
            }  # fmt: skip
    publish(result, args.output)


def _train(run: Path, count: int, args: argparse.Namespace, *words: str) -> Path:
    names = ",".join(f"site-{number}" for number in range(1, count + 1))
    settings = (
        "experiment=segmentation", f"output_dir={run}", f"seed={args.seed}", "quiet=true",
        f"federation.sites=[{names}]", f"federation.min_sites={count}",
        f"federation.rounds={args.rounds}", f"data.synthetic.patients={args.patients}",
        f"data.image_size={args.size}", f"data.cache_dir={run.parent / 'cache'}",
        "training.threads=1", "tracking=disabled", *words,
    )  # fmt: skip
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *settings]
    subprocess.run(command, cwd=run.parent, check=True, stdout=subprocess.DEVNULL)
    return run


def _baselines() -> tuple[str, ...]:
    return ("baselines=[local,centralised]",)


def _private(args: argparse.Namespace) -> tuple[str, ...]:
    """Noisy steps through the U-Net: group norm and standardised kernels, several views."""
    return (
        "baselines=[]", "privacy=dp_sgd", f"privacy.epsilon={args.epsilon}",
        "model.norm=group", "model.weight_standardisation=true",
    )  # fmt: skip


def _arms(run: Path) -> dict[str, Any]:
    metrics = read_json(run / "metrics.json")
    local = [_figures(found) for found in metrics["local"].values()]
    return {
        "federated": _figures(metrics["federated"]),
        "centralised": _figures(metrics["centralised"]),
        "local_mean": {
            key: float(np.mean([one[key] for one in local if one[key] is not None]))
            for key in _FIGURES
        },
        "local": local,
        "test_images": metrics["federated"]["n"],
        "seconds": metrics["seconds"],
    }


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    classes = {name: one["dice"] for name, one in found["per_class"].items()}
    return {**{key: found[key] for key in _FIGURES}, "dice_of_class": classes}


if __name__ == "__main__":
    main()
