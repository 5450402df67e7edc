"""Do two checkouts train the same models? Digests and figures of short runs, for comparison.

`python -m primia_bench.training.same_figures --data FOLDER --output after.json [--checkout FOLDER]`
runs the demo and a short case study, each securely and plainly, with the code of a checkout;
`--compare before.json after.json` says whether everything is the same, bit for bit. The table of
predictions has pseudonyms of real patients since 2026-11-29, and other ones at each site: there
`predictions_sha256` differs while the model and the rounds are the same.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from primia_bench.machine import describe_machine

# By arm: the overrides of today, and those of a checkout from before the axes came apart.
PLAIN = {"today": ["aggregation=plain"], "old": ["strategy=fedavg"]}
SHORT = ["federation.rounds=2", "training.sync_every_n_batches=4"]
BARE = ["baselines=[]", "report.saliency=0"]  # what comes after the model is not compared
# The demo as the recorded figures have it.
RECIPE = ["federation.rounds=6", "training.batch_size=16", "training.learning_rate=1e-3"]
KEYS = ("accuracy", "mcc", "roc_auc", "loss")


def runs(data: str, *, old: bool) -> dict[str, list[str]]:
    """Return the overrides of each run by its name."""
    plain = PLAIN["old" if old else "today"]
    study = [
        "experiment=pneumonia",
        f"data.root='{data}'",
        "data.image_size=64",
        *SHORT,
        *BARE,
    ]
    demo = ["experiment=demo", "model=resnet18", *RECIPE, *BARE]
    found = {"demo, secure": demo, "demo, plain": [*demo, *plain]}
    if data:
        found |= {"case study, secure": study, "case study, plain": [*study, *plain]}
    return found


def outcome(checkout: Path, overrides: list[str]) -> dict[str, Any]:
    """Train once; return the digest of the model's weights and the figures of the run."""
    with tempfile.TemporaryDirectory(prefix="same-figures-") as folder:
        out = Path(folder) / "run"
        subprocess.run(
            [sys.executable, "-m", "primia_flwr.cli.main", "train", *overrides, "quiet=true",
             "tracking=disabled", f"output_dir='{out}'"],
            cwd=checkout, check=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )  # fmt: skip
        weights = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
        rounds = (out / "history.csv").read_text().splitlines()
        wanted = [
            rounds[0].split(",").index(k) for k in ("round", "train_loss", "val_loss", "val_mcc")
        ]
        history = [[line.split(",")[i] for i in wanted] for line in rounds]
        predictions = out / "predictions.csv"
        scores = (
            hashlib.sha256(predictions.read_bytes()).hexdigest() if predictions.is_file() else ""
        )
    return {"model_sha256": weights, "predictions_sha256": scores, "rounds": history}


def main() -> None:
    """Run, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[3])
    parser.add_argument("--data", default="", help="folder of the radiographs; none: demo only")
    parser.add_argument("--old-keys", action="store_true", help="the checkout has strategy=fedavg")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    args = parser.parse_args()
    if args.compare:
        before, after = (json.loads(path.read_text())["runs"] for path in args.compare)
        for name, known in before.items():
            odd = [part for part in known if known[part] != after.get(name, {}).get(part)]
            print(f"{name}: {'DIFFERENT in ' + ', '.join(odd) if odd else 'the same'}")
        sys.exit(before != after)
    found = {}
    for name, overrides in runs(args.data, old=args.old_keys).items():
        print(name, flush=True)
        found[name] = outcome(args.checkout.resolve(), overrides)
    text = json.dumps({"machine": describe_machine(), "runs": found}, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
