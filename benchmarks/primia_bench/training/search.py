"""Federated search against random search and the default configuration, at equal image passes.

Three simulated hospitals, secure aggregation, small images. For every seed two searches run on
the same budget of image passes: `halving` (successive halving inside one run) and `random` (fewer
configurations, each trained for the full length). A search's own best validation is optimistic,
because it is the best of many. So what it found is trained again from scratch with a fresh seed,
which deals other patients to hospitals, validation and test, for as many rounds as the default
configuration with that same seed. Arms:

- `default`: the experiment's own configuration, for the length of one training;
- `default_long`: the same, for as many rounds as a whole search took (with --long);
- `random`, `halving`: what each search found, for the length of one training.

Validation scores are those of the best round's model over all hospitals' validation patients, by
which a run picks its model; test scores are on patients of no hospital. Differences are paired by
seed; intervals are 95 % intervals of Student's t over the seeds. No image and no file name of the
data is written.

    python -m primia_bench.training.search --data ../shared/data/chest_xray --output results.json
    python -m primia_bench.training.search --seeds 1 2 --rounds 4 --population 4 \
        --eta 2     # synthetic

Data: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY 4.0.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.halving import rounds_in_all
from primia_flwr.config.experiment.search import SearchConfig
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage import plain_csv

# A training that ends without a model counts as a guess: three classes alike.
NO_MODEL = {"val_mcc": 0.0, "val_loss": float(np.log(3)), "test_mcc": 0.0, "test_roc_auc": 0.5}
FRESH = 1000  # added to a search's seed for the trainings that are compared
SCORES = ("val_mcc", "val_loss", "test_mcc", "test_roc_auc")
_QUIET = ("baselines=[]", "tracking=disabled", "quiet=true", "training.threads=1")
Row = dict[str, Any]


def primia(folder: Path, args: argparse.Namespace, *overrides: str) -> Path:
    """Run `primia train` in a folder and return it."""
    data = [f"experiment={'pneumonia' if args.data else 'demo'}", f"data.image_size={args.size}"]
    data += [f"data.root={args.data}"] if args.data else ["data.synthetic.patients=150"]
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *data, f"model={args.model}"]
    command += ["training.sync_every_n_batches=0", f"training.local_epochs={args.epochs}"]
    command += [f"federation.rounds={args.rounds}", f"output_dir={folder}", *_QUIET]
    command += [f"data.cache_dir={folder.parent / 'cache'}"]  # decoded once for all runs
    subprocess.run([*command, *overrides], check=True, stdout=sys.stderr)
    return folder


def search(method: str, seed: int, args: argparse.Namespace, scratch: Path) -> Row:
    """Run one search and return what it found and what it cost."""
    folder = primia(
        scratch / f"search-{method}-{seed}",
        args,
        *("search=pneumonia", f"search.population={args.population}"),
        *(f"search.eta={args.eta}", f"search.first_rung={args.first_rung}"),
        *(f"search.halving={str(method == 'halving').lower()}", f"seed={seed}"),
    )
    found = read_json(folder / "search.json")
    chosen = found["configurations"][found["chosen"]]
    row = {
        "seed": seed,
        "method": method,
        "image_passes": found["image_passes"],
        "configurations": len(found["configurations"]),
        "diverged": sum(c["status"] == "diverged" for c in found["configurations"]),
        "chosen": found["chosen"],
        "values": chosen["values"],
        "own_validation_mcc": chosen["mcc"],
        "seconds": read_json(folder / "run.json")["seconds"],
    }
    return _shown(row)


def train(
    arm: str, values: Row, seed: int, args: argparse.Namespace, scratch: Path, rounds: int
) -> Row:
    """Train one configuration from scratch with a fresh seed and return its scores."""
    chosen = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    folder = scratch / f"{arm}-{seed}"
    own = [f"seed={FRESH + seed}", f"federation.rounds={rounds}", "aggregation=secure"]
    own += ["aggregation.clip=512"]  # as in the search
    row: Row = {"seed": seed, "arm": arm, "diverged": False}
    try:
        primia(folder, args, *own, *chosen)
    except subprocess.CalledProcessError:
        return _shown({**row, **NO_MODEL, "diverged": True})
    with (folder / "history.csv").open() as file:
        history = list(plain_csv.DictReader(file))
    best = next(row for row in history if row["best"] == "1")
    test = read_json(folder / "metrics.json")["federated"]
    row |= {
        "val_mcc": float(best["val_mcc"]),
        "val_loss": float(best["val_loss"]),
        "test_mcc": test["mcc"],
        "test_roc_auc": test["roc_auc"],
        "image_passes": sum(int(row["images"]) for row in history),
    }
    return _shown(row)


def one_seed(seed: int, args: argparse.Namespace, scratch: Path) -> tuple[list[Row], list[Row]]:
    """Search by both methods, and compare what they found with the default."""
    searches = [search(method, seed, args, scratch) for method in ("random", "halving")]
    arms = [train("default", {}, seed, args, scratch, args.rounds)]
    for found in searches:
        if found["values"]:
            arms.append(train(found["method"], found["values"], seed, args, scratch, args.rounds))
        else:  # the search chose the default: the same training, bit for bit
            arms.append({**arms[0], "arm": found["method"]})
    if args.long:
        plan = SearchConfig(args.population, args.eta, first_rung=args.first_rung)
        whole = rounds_in_all(plan.rungs(args.rounds))
        arms.append(train("default_long", {}, seed, args, scratch, whole))
    return searches, arms


def compared(arms: Sequence[Row]) -> Row:
    """Return mean and t interval of every arm, and of the paired differences of the arms."""
    names = list(dict.fromkeys(row["arm"] for row in arms))
    of = {
        (arm, score): np.array([row[score] for row in arms if row["arm"] == arm])
        for arm in names
        for score in SCORES
    }
    found: Row = {arm: {score: interval(of[arm, score]) for score in SCORES} for arm in names}
    for other in [name for name in names if name != "halving"]:
        found[f"halving minus {other}"] = {
            score: interval(of["halving", score] - of[other, score]) for score in SCORES
        }
    return found


def interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> Row:
    """Return the mean of the seeds with its 95 % t interval, None with one seed.

    Without spread the interval is the point.
    """
    mean, low_high = float(np.mean(values)), None
    if len(values) > 1:
        error = float(stats.sem(values))
        ends = (
            stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else (mean,) * 2
        )
        low_high = [round(float(end), 4) for end in ends]
    return {"mean": round(mean, 4), "interval_95": low_high, "seeds": len(values)}


def _shown(row: Row) -> Row:
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the radiographs; else synthetic ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--model", default="simpleconv")
    parser.add_argument("--size", type=int, default=32, help="pixels along each side")
    parser.add_argument("--rounds", type=int, default=9, help="of one training")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the images a round")
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--eta", type=int, default=4)
    parser.add_argument("--first-rung", type=int, default=0)
    parser.add_argument("--long", action="store_true", help="also the default for a whole search")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    searches, arms = list[Row](), list[Row]()
    with tempfile.TemporaryDirectory(prefix="primia-search-") as name:
        for seed in args.seeds:
            found, trained = one_seed(seed, args, Path(name))
            searches, arms = searches + found, arms + trained
    publish(
        {
            "benchmark": "search",
            "settings": {
                **{k: v for k, v in vars(args).items() if k not in ("output", "data")},
                "data": "radiographs" if args.data else "synthetic",
                "fresh_seed": f"seed + {FRESH}",
            },
            "comparison": compared(arms),
            "searches": searches,
            "arms": arms,
            "machine": describe_machine(),
        },
        args.output,
    )


if __name__ == "__main__":
    main()
