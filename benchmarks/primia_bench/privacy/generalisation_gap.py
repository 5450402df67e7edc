"""Does the noise of DP-SGD regularise? The gap between training and test, against the noise.

Usage: python -m primia_bench.privacy.generalisation_gap [--noises 0 0.5 1 2 4] [--seeds 1 2 3]
    [--output benchmarks/results/generalisation_gap.json]
The claim of Wu et al. 2019 (P3SGD) on the handwritten digits of scikit-learn: a small network on
few of them, so that it has something to overfit; each digit is a unit. Private steps as a site
takes them (`fit_private`), with one and four steps of a unit before it is clipped, and with a fixed
clip and one that moves. Noise 0 is clipped without noise: no privacy. Gap: MCC on the training
digits less MCC on the others. Means over the seeds, which deal out other digits and first weights,
with 95 % limits of Student's t; what a noise changes of the gap is taken seed by seed. Noise and
draws come from the operating system, so the figures change a little from run to run. Rows that the
output file has already, with the same settings, are not measured again.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.metrics import matthews_corrcoef
from torch import nn

from primia_bench.machine import describe_machine, publish, save
from primia_flwr.config.experiment.privacy import PrivacyConfig
from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.data.dataset import LabelledImages
from primia_flwr.privacy.accounting.accountant import epsilon
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.private import fit_private
from primia_flwr.training.private_plan import PrivatePlan
from primia_flwr.training.recipe import Recipe

DELTA = 1e-3
_SILENT = 1e-6  # noise multiplier of what is called 0
_SCALE = Normalisation((0.3,), (0.35,))
_HIDDEN, _CLASSES, _PIXELS = 32, 10, 64
_QUANTILE = {"fixed": 0.0, "adaptive": 0.5}


@dataclass(frozen=True)
class Arm:
    """One way of training: the noise, the clip (`fixed`, `adaptive`), the steps of a unit."""

    noise_multiplier: float
    clip: str
    unit_steps: int


def digits(seed: int, train: int) -> tuple[LabelledImages, LabelledImages]:
    """Deal the digits out: so many to train on, and all the others."""
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    pixels = torch.from_numpy((found.images * 255 / 16).round().astype(np.uint8))[:, None]
    names = tuple(f"{at:04d}.png" for at in range(len(order)))
    labels = torch.from_numpy(found.target.astype(np.int64))
    whole = LabelledImages(pixels, labels, names, names, tuple(map(str, range(_CLASSES))))
    return whole.select(order[:train].tolist()), whole.select(order[train:].tolist())


def network(seed: int) -> nn.Module:
    """Return a perceptron of 2,410 numbers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(_PIXELS, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _CLASSES)
    )


def measure(arm: Arm, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train once; return the MCC on both sets, and the last clip."""
    train, test = digits(seed, args.train)
    model = network(seed)
    noise = arm.noise_multiplier or _SILENT
    privacy = PrivacyConfig(
        mode="dp_sgd",
        unit="image",
        noise_multiplier=noise,
        expected_batch=args.batch,
        steps=args.steps,
        engine="loop" if arm.unit_steps > 1 else "ghost",
        micro_batch=args.batch * 2,
        patient_steps=arm.unit_steps,
        patient_rate=args.unit_rate,
        clip_quantile=_QUANTILE[arm.clip],
        clip_count_noise=args.count_noise,
    )
    training = TrainingConfig(
        optimizer="sgd", learning_rate=args.rate, min_learning_rate=args.rate, warmup=0.0,
        schedule="constant", momentum=0.0, weight_decay=0.0, device="cpu",
    )  # fmt: skip
    plan = PrivatePlan(noise, args.batch / args.train, args.steps, 0, args.steps)
    left = fit_private(model, train, Recipe(training, _SCALE, seed), privacy, plan)
    return {"train": mcc(model, train), "test": mcc(model, test), "clip": left.clip_norm}


def mcc(model: nn.Module, images: LabelledImages) -> float:
    """Return the Matthews correlation of a model's guesses."""
    with torch.no_grad():
        guesses = model.eval()(_SCALE.apply(images.images)).argmax(dim=1)
    return float(matthews_corrcoef(images.labels.numpy(), guesses.numpy()))


def row(arm: Arm, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of an arm: of all seeds, their means and limits."""
    started = time.process_time()
    found = [measure(arm, seed, args) for seed in args.seeds]
    plan = PrivatePlan(arm.noise_multiplier, args.batch / args.train, args.steps, 0, args.steps)
    cost = epsilon([plan.event], delta=DELTA).epsilon if arm.noise_multiplier else None
    gaps = [one["train"] - one["test"] for one in found]
    return {
        **asdict(arm),
        "epsilon": None if cost is None else round(cost, 2),
        "gap": limits(gaps),
        "train_mcc": limits([one["train"] for one in found]),
        "test_mcc": limits([one["test"] for one in found]),
        "last_clip": [round(one["clip"], 4) for one in found],
        "processor_seconds": round(time.process_time() - started, 1),
    }


def changes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how much each noise changes the gap, seed by seed: digits and weights are the same."""
    silent = {(r["clip"], r["unit_steps"]): r["gap"]["seeds"] for r in rows if not _noise(r)}
    found = []
    for each in rows:
        before = silent.get((each["clip"], each["unit_steps"]))
        if before and _noise(each):
            pairs = zip(each["gap"]["seeds"], before, strict=True)
            arm = {key: each[key] for key in ("noise_multiplier", "clip", "unit_steps")}
            found.append({**arm, **limits([gap - silence for gap, silence in pairs])})
    return found


def _noise(found: dict[str, Any]) -> float:
    return float(found["noise_multiplier"])


def limits(values: list[float]) -> dict[str, Any]:
    """Return the mean of the seeds and half the width of its 95 % interval."""
    half = None
    if len(values) > 1:
        half = round(float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)), 4)
    each = [round(value, 4) for value in values]
    return {"mean": round(float(np.mean(values)), 4), "half_width": half, "seeds": each}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--noises", type=float, nargs="+", default=[0, 0.5, 1, 2, 4])
    parser.add_argument("--unit-steps", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--train", type=int, default=120, help="digits to train on")
    parser.add_argument("--batch", type=int, default=60, help="expected units of a step")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=0.5, help="learning rate")
    parser.add_argument("--unit-rate", type=float, default=0.05, help="of a unit's own steps")
    parser.add_argument("--count-noise", type=float, default=6.0, help="of the adaptive clip")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known, rows = known_rows(args), list[dict[str, Any]]()
    for steps, clip, noise in product(args.unit_steps, _QUANTILE, args.noises):
        arm = Arm(noise, clip, steps)
        before = next((old for old in known if asdict(arm).items() <= old.items()), None)
        rows.append(before or row(arm, args))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        save(report(rows + [old for old in known if old not in rows], args), args.output)
    publish(report(rows, args), args.output)


def known_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of the output file, if it has the same settings."""
    path = Path(args.output)
    found = json.loads(path.read_text()) if args.output and path.is_file() else {}
    return list(found["rows"]) if found.get("settings") == settings(args) else []


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what makes rows comparable."""
    keys = ("seeds", "train", "batch", "steps", "rate", "unit_rate", "count_noise")
    chosen = {key: getattr(args, key) for key in keys}
    return {**chosen, "delta": DELTA, "quantile": _QUANTILE["adaptive"]}


def report(rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Return what is published."""
    return {
        "benchmark": "generalisation_gap",
        "settings": settings(args),
        "rows": rows,
        "gap_less_that_without_noise": changes(rows),
        "machine": describe_machine(),
    }


if __name__ == "__main__":
    main()
