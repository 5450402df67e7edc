"""What differentially private training is worth on the real radiographs, and what helps.

Three hospitals, secure aggregation, `privacy=dp_sgd` by patient, delta 1e-4; ResNet-18 with group
norm and standardised kernels at 32 x 32, or what the arm says. An arm is where the weights come
from, and which of them are trained:

- `scattering`: fixed wavelets and a linear layer (`model=scattering`, Tramèr and Boneh 2021);
- `scratch`: all layers, from random weights;
- `norm_free`: the same without normalisation (`model.norm=none`), which can be served encrypted;
- `scratch_fast`: as `scratch`, at a rate four times as high;
- `pretrained`: all layers, from weights that were trained on synthetic radiographs, which are of no
  patient and cost no budget;
- `norm`: the same weights, but only scales and shifts of the norms and the classifier are trained:
  11,139 entries for the noise to spoil in place of 11 million;
- `head`: the same weights, but only the classifier is trained, 1,539 entries.

Each arm without privacy (same steps, batch and data; plain optimiser) and at several epsilons, with
several seeds: a seed deals out other patients to hospitals and test set. Images are flipped at
random, and not augmented otherwise. `--ablations` adds, for the arms `norm` at epsilon 3 and
`scattering` at epsilon 1, if they are chosen, one change at a time with the first seed. Runs that
the output file already has, with the same settings, are not run again.

Intervals of one run are the patient-wise bootstrap's on its test patients; over the seeds, mean
and range. No image and no file name of the data is written.

    python -m primia_bench.privacy.utility --data ../shared/data/chest_xray --output results.json

Data: Kermany, Zhang, Goldbaum, Mendeley Data V2, doi:10.17632/rscbjbr9sj.2, CC BY 4.0.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from primia_bench.machine import describe_machine, publish
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.runs.metadata import read_json
from primia_flwr.statistics.auc import area_statistic
from primia_flwr.statistics.intervals import Strata, bootstrap_limits
from primia_flwr.tasks.classes.bootstrap import confusion_statistic
from primia_flwr.tasks.classes.judge import JUDGE

DELTA = 1e-4
EPSILONS = (1.0, 3.0, 6.0, 10.0)
ABLATED_EPSILONS = {"norm": 3.0, "scattering": 1.0}
ARMS = ("scattering", "scratch", "norm_free", "scratch_fast", "pretrained", "norm", "head")
FROM_SCRATCH = ("scattering", "scratch", "norm_free", "scratch_fast")
_SCORES = ("mcc", "roc_auc", "accuracy", "n")
_MODEL = ("model.norm=group", "model.weight_standardisation=true")
_QUIET = ("baselines=[]", "tracking=disabled", "quiet=true", "training.threads=1")
_FLAT = tuple(
    f"data.augmentation.{name}.probability=0"
    for name in ("affine", "brightness", "contrast", "noise")
)
# That of the norms was looked for on validation patients of one seed, those of `norm_free` and
# `scratch_fast` on another split of the patients, the others are usual values; one for all epsilons
# of an arm, ending at a tenth of itself.
RATES = {
    "scratch": 1e-3, "norm_free": 3e-2, "scratch_fast": 4e-3, "pretrained": 1e-3, "norm": 1e-2,
    "head": 1e-2,
}  # fmt: skip
# A convex problem: plain steps at one rate, no flips (a heart is on the left), larger batches;
# looked for on patients held out of those that the seeds train on.
_SCATTERING = (
    "model=scattering", "training.learning_rate=0.4", "training.min_learning_rate=0.4",
    "training.schedule=constant", "data.augmentation.flip.horizontal=0",
)  # fmt: skip
_ADAM = ("training.learning_rate=1e-3", "training.min_learning_rate=1e-3")
_PLAIN_STEPS = ("training.optimizer=sgd", "training.momentum=0", "privacy.expected_batch=256")
_AUGMENT = tuple(word.replace("=0", "=0.5") for word in _FLAT)
# What is changed of an arm, one at a time.
ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "norm": {
        "average of the models, decay 0.9": ("privacy.averaging=0.9",),
        "batch of 64": ("privacy.expected_batch=64",),
        "batch of 256": ("privacy.expected_batch=256",),
        "two augmented views": ("privacy.views=2", *_AUGMENT),
    },
    "scattering": {
        "batch of 128": ("privacy.expected_batch=128",),
        "batch of 512": ("privacy.expected_batch=512",),
        "flips": ("data.augmentation.flip.horizontal=0.5",),
        "noise shared in the sum": (
            "privacy=dp_sgd_shared", "privacy.sampling_rate=0.2626", "privacy.steps=1",
            "federation.rounds=60",
        ),
    },
}  # fmt: skip


def primia(arguments: list[str], folder: Path) -> Path:
    """Run `primia train` and return its folder."""
    command = [sys.executable, "-m", "primia_flwr.cli.main", "train", *arguments]
    subprocess.run([*command, f"output_dir={folder}", *_QUIET], check=True, stdout=sys.stderr)
    return folder


def pretrain(folder: Path, patients: int, rounds: int) -> Path:
    """Train on synthetic radiographs without privacy; return the weights."""
    run = primia(
        [
            "data=synthetic", "name=pretraining", f"data.synthetic.patients={patients}",
            "data.classes=[bacterial,normal,viral]", "data.image_size=64", *_MODEL,
            "aggregation=plain", f"federation.rounds={rounds}", "training.optimizer_state=keep",
            "training.precision=bf16", "data.val_fraction=0.05", "data.test_fraction=0.1",
        ],
        folder / "pretraining",
    )  # fmt: skip
    return run / "model.safetensors"


def arm_overrides(arm: str, weights: Path, *, private: bool) -> list[str]:
    """Return what an arm changes of the experiment."""
    if arm == "scattering":
        return [*_SCATTERING, *(_PLAIN_STEPS if private else _ADAM)]
    rates = [
        f"training.learning_rate={RATES[arm]}",
        f"training.min_learning_rate={RATES[arm] / 10}",
    ]
    if arm == "norm_free":
        return [*rates, "model.norm=none"]
    if arm in ("scratch", "scratch_fast"):
        return rates
    found = [*rates, f"model.weights={weights}"]
    return found if arm == "pretrained" else [*found, f"model.trainable={arm}"]


def private(epsilon: float, args: argparse.Namespace) -> list[str]:
    """Return the overrides of a private run, or of its twin without noise where epsilon is 0."""
    steps = [f"federation.rounds={args.rounds}"]
    if epsilon:
        return [
            *steps, "privacy=dp_sgd", f"privacy.epsilon={epsilon}", f"privacy.delta={DELTA}",
            f"privacy.expected_batch={args.batch}", f"privacy.steps={args.steps}",
            "training.sync_every_n_batches=0", *_FLAT,
        ]  # fmt: skip
    return [
        *steps, *_MODEL, "strategy.weighting=equal", "data.normalisation.kind=fixed",
        f"training.batch_size={args.batch}", f"training.sync_every_n_batches={args.steps}", *_FLAT,
    ]  # fmt: skip


def run_arm(
    arm: str,
    epsilon: float,
    seed: int,
    weights: Path,
    args: argparse.Namespace,
    scratch: Path,
    changes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Run one training and return its scores on the test patients."""
    words = [
            "experiment=pneumonia", f"data.root={args.data}", f"seed={seed}",
            f"data.image_size={args.size}",
            "training.label_smoothing=0", "training.weight_decay=0", "training.warmup=0",
            "training.schedule=log_cosine", "training.optimizer=adamw",
            *private(epsilon, args), *arm_overrides(arm, weights, private=epsilon > 0),
    ]  # fmt: skip
    folder = primia(changed(words, changes), Path(tempfile.mkdtemp(dir=scratch)) / "run")
    scores = read_json(folder / "metrics.json")["federated"]
    row: dict[str, Any] = {"arm": arm, "epsilon": epsilon or None, "seed": seed}
    row |= {key: scores[key] for key in _SCORES}
    row |= {"intervals_95": intervals(folder / "predictions.csv", seed)}
    row |= {"seconds": read_json(folder / "run.json")["seconds"]}
    shutil.rmtree(folder.parent)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def changed(words: list[str], changes: tuple[str, ...]) -> list[str]:
    """Return overrides with some changed: one of the same key is left out."""
    keys = {word.partition("=")[0] for word in changes}
    return [word for word in words if word.partition("=")[0] not in keys] + list(changes)


def intervals(predictions: Path, seed: int) -> dict[str, list[float]]:
    """Return the limits of a run's area and MCC, by the bootstrap over its test patients."""
    found = read_predictions(predictions, JUDGE)
    strata = Strata.by_class(found.patients, found.labels)
    classes, called = len(found.names), found.outputs.argmax(axis=1)
    statistics_of = {
        "roc_auc": (area_statistic(found.labels, found.outputs, classes, strata), 0),
        "mcc": (confusion_statistic(found.labels, called, classes, strata), 1),
    }
    rng, limits = np.random.default_rng(seed), {}
    for name, (statistic, row) in statistics_of.items():
        _, low, high = bootstrap_limits(statistic, strata, rng=rng)
        limits[name] = [round(float(low[row]), 3), round(float(high[row]), 3)]
    return limits


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean, smallest and largest over the seeds, by arm and epsilon."""
    found = []
    for arm, epsilon in dict.fromkeys((row["arm"], row["epsilon"]) for row in rows):
        same = [row for row in rows if (row["arm"], row["epsilon"]) == (arm, epsilon)]
        line: dict[str, Any] = {"arm": arm, "epsilon": epsilon, "seeds": len(same)}
        for key in ("roc_auc", "mcc"):
            values = [row[key] for row in same]
            line[key] = {
                "mean": round(statistics.fmean(values), 3),
                "range": [round(min(values), 3), round(max(values), 3)],
            }
        found.append(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the radiographs")
    parser.add_argument("--weights", type=Path, help="pretrained before; else it is done now")
    parser.add_argument("--pretrain-patients", type=int, default=3000)
    parser.add_argument("--pretrain-rounds", type=int, default=10)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.0, *EPSILONS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=128, help="expected patients of a step")
    parser.add_argument("--steps", type=int, default=6, help="steps a round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--ablations", action="store_true", help="what else helps")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    rows = known_rows(args)
    wanted = plan(args, rows)
    with tempfile.TemporaryDirectory(prefix="primia-dp-utility-") as name:
        scratch = Path(name)
        weights = args.weights
        if weights is None and {arm for arm, *_ in wanted} - set(FROM_SCRATCH):
            weights = pretrain(scratch, args.pretrain_patients, args.pretrain_rounds)
        for arm, epsilon, seed, change in wanted:
            overrides = ABLATIONS[arm][change] if change else ()
            row = run_arm(arm, epsilon, seed, weights or Path(), args, scratch, overrides)
            rows.append({"change": change, **row} if change else row)
            publish(report(rows, args), args.output)


def plan(
    args: argparse.Namespace, known: list[dict[str, Any]]
) -> list[tuple[str, float, int, str]]:
    """Return arm, epsilon, seed and change of the runs that are not among the known rows."""
    wanted = [
        (arm, epsilon, seed, "")
        for seed in args.seeds
        for arm in args.arms
        for epsilon in args.epsilons
    ]
    if args.ablations:
        wanted += [
            (arm, ABLATED_EPSILONS[arm], args.seeds[0], change)
            for arm, changes in ABLATIONS.items()
            if arm in args.arms
            for change in changes
        ]
    done = {(r["arm"], r["epsilon"] or 0.0, r["seed"], r.get("change", "")) for r in known}
    return [run for run in wanted if run not in done]


def known_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of the output file, if it has the same settings for the chosen arms."""
    if not args.output or not Path(args.output).is_file():
        return []
    found = read_json(Path(args.output))
    before = {**found["settings"], "rates": of_arms(found["settings"]["rates"], args.arms)}
    return list(found["rows"]) if before == settings(args) else []


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what makes rows comparable."""
    keys = ("pretrain_patients", "pretrain_rounds", "batch", "steps", "rounds", "size")
    chosen = {key: getattr(args, key) for key in keys}
    return {**chosen, "delta": DELTA, "unit": "patient", "rates": of_arms(RATES, args.arms)}


def of_arms(rates: dict[str, float], arms: list[str]) -> dict[str, float]:
    """Return the learning rates of some arms."""
    return {arm: rate for arm, rate in rates.items() if arm in arms}


def report(rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Return what is published."""
    return {
        "benchmark": "dp_utility",
        "settings": settings(args),
        "summary": summary([row for row in rows if "change" not in row]),
        "rows": rows,
        "machine": describe_machine(),
    }


if __name__ == "__main__":
    main()
