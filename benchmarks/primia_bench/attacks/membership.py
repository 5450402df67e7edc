"""Membership inference on the real radiographs: overfitted, usual, and differentially private.

Three hospitals, secure aggregation, simpleconv with group norm at 32 x 32, the same number of steps
in every arm; the final model is then attacked by `primia attack membership`:

- `overfitted`: about 530 training images, no augmentation, no weight decay, no label smoothing;
- `usual`: 85 % of four fifths of the images, augmented, as `experiment=pneumonia`;
- `private`: the same images (those for validation included), `privacy=dp_sgd` by patient.

The model is small and so are the images, so that the whole takes about ten minutes of one core; the
figures are of these runs and not of a ResNet-18 at 112 x 112. No image and no file name is written.

    python -m primia_bench.attacks.membership --data ../shared/data/chest_xray --output results.json

Data: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY 4.0.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_flwr.runs.metadata import read_json

DELTA = 1e-4
_PLAIN = (
    "training.label_smoothing=0", "training.weight_decay=0", "data.augmentation.flip.horizontal=0",
    *(
        f"data.augmentation.{name}.probability=0"
        for name in ("affine", "brightness", "contrast", "noise")
    ),
)  # fmt: skip
_SCORES = ("mcc", "roc_auc", "accuracy", "n")
_FACTS = ("members", "non_members", "shadows", "attacks", "yeom_threshold", "privacy", "notes")


def overrides(arm: str, args: argparse.Namespace) -> list[str]:
    """Return what an arm changes of the experiment; the steps of a site are the same in each."""
    plain = [f"training.sync_every_n_batches={args.steps}", f"training.batch_size={args.batch}"]
    if arm == "overfitted":
        return [*plain, *_PLAIN, "data.test_fraction=0.88"]
    if arm == "usual":
        return plain
    return [
        *_PLAIN, "training.sync_every_n_batches=0", "privacy=dp_sgd", f"privacy.delta={DELTA}",
        f"privacy.epsilon={args.epsilon}", f"privacy.expected_batch={args.private_batch}",
        f"privacy.steps={args.steps}", "model.weight_standardisation=false",
        "privacy.micro_batch=64",
    ]  # fmt: skip


ARMS = ("overfitted", "usual", "private")


def primia(*words: str) -> None:
    """Run one command on one thread; its output goes to standard error."""
    command = [sys.executable, "-m", "primia_flwr.cli.main", *words]
    subprocess.run(command, check=True, stdout=sys.stderr)


def run_arm(arm: str, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Train one arm, attack its model, and return what both found."""
    folder, started = scratch / arm, time.monotonic()
    primia(
        "train", "experiment=pneumonia", f"data.root={args.data}", f"output_dir={folder}",
        f"data.cache_dir={scratch / 'cache'}", f"seed={args.seed}", "baselines=[]",
        "tracking=disabled", "quiet=true", "training.threads=1", "data.image_size=32",
        "model=simpleconv", "model.norm=group", "model.norm_groups=8",
        f"federation.rounds={args.rounds}", "training.learning_rate=2e-3",
        *overrides(arm, args),
    )  # fmt: skip
    primia("attack", "membership", f"run={folder}", f"shadows={args.shadows}", "device=cpu")
    scores = read_json(folder / "metrics.json")["federated"]
    found = read_json(folder / "membership" / "membership.json")
    run = read_json(folder / "run.json")
    row = {
        "arm": arm,
        "round": found["round"],
        "test": {key: scores[key] for key in _SCORES},
        "train_images": sum(site["train"] for site in run["sites"]),
        **{key: found[key] for key in _FACTS},
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--shadows", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20, help="steps a round, at every site")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epsilon", type=float, default=6.0)
    parser.add_argument("--private-batch", type=int, default=48, help="expected patients a step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    settings = {k: v for k, v in vars(args).items() if k not in ("output", "data")}
    rows = []
    with tempfile.TemporaryDirectory(prefix="primia-membership-") as name:
        for arm in args.arms:
            rows.append(run_arm(arm, args, Path(name)))
    publish(
        {
            "benchmark": "membership",
            "settings": {**settings, "delta": DELTA, "model": "simpleconv", "image_size": 32},
            "arms": rows,
            "machine": describe_machine(),
        },
        args.output,
    )


if __name__ == "__main__":
    main()
