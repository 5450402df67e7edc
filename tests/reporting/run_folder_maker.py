"""Make an output folder as a run leaves it: small, invented, but consistent with itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.config.rows import TASKS
from primia_flwr.runs.cross_site import Cell
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.tasks.classes.scores import score
from primia_flwr.tasks.task import Evaluation
from tests import class_predictions

CLASSES = ("normal", "bacterial", "viral")
SITES = ("munich", "paris", "london")
CONFIG = """\
name: pneumonia
seed: 1
data:
  layout: {layout}
  root: /data/chest_xray
  image_size: 112
model:
  name: resnet18
  note: '<script>alert("x")</script>'
"""
HISTORY = (
    *("round", "seconds", "seconds_outside_training", "train_loss", "val_loss", "val_accuracy"),
    *("val_balanced_accuracy", "val_mcc", "sites", "failed", "bytes_up", "bytes_down"),
    *("images_per_second", "best"),
)
SITE_COLUMNS = (
    *("round", "site", "status", "reason", "num_examples", "num_batches", "epochs", "train_loss"),
    *("val_loss", "val_accuracy", "val_mcc", "stopped_early", "images_per_second", "seconds"),
)


def predictions(n: int, sharpness: float, seed: int) -> tuple[IntArray, FloatArray]:
    """Labels and softmax probabilities that favour the true class the more, the sharper."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, size=n, p=[0.26, 0.48, 0.26]).astype(np.int64)
    logits = generator.normal(size=(n, 3)) + sharpness * np.eye(3)[labels]
    exponentials = np.exp(1.6 * logits)
    return labels, exponentials / exponentials.sum(axis=1, keepdims=True)


def make_run_folder(
    path: Path, *, rounds: int = 12, seed: int = 3, layout: str = "pneumonia", **changes: Any
) -> Path:
    """Write the folder; `changes` replace entries of run.json."""
    path.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    mcc = 0.78 * (1 - np.exp(-np.arange(1, rounds + 1) / 3)) + generator.normal(0, 0.012, rounds)
    best = int(mcc.argmax()) + 1
    _write_run(path, rounds, best, seed, changes)
    (path / "config.yaml").write_text(CONFIG.format(layout=layout))
    _write_history(path / "history.csv", mcc, best, generator)
    _write_sites(path / "sites.csv", mcc, generator)
    _write_results(path, seed)
    return path


def cell(confusion: list[list[int]]) -> Cell:
    """One model at one site: counts of a classification, and a mean loss of 0.5."""
    n = int(np.sum(confusion))
    sums = {"confusion": confusion}
    return Cell(Evaluation.of(TASKS["classification"], len(confusion), 0.5 * n, n, sums))


def _test_counts(seed: int) -> dict[str, int]:
    labels, _ = predictions(400, 1.0, seed)
    return {name: int((labels == k).sum()) for k, name in enumerate(CLASSES)}


def _write_run(path: Path, rounds: int, best: int, seed: int, changes: dict[str, Any]) -> None:
    counts = ((412, 780, 401), (250, 471, 244), (203, 377, 201))
    run: dict[str, Any] = {
        "name": "pneumonia",
        "status": "finished",
        "versions": {"primia_flwr": "0.1.0", "flwr": "1.41.0", "torch": "2.13.0", "python": "3.11"},
        "git_commit": "4f2a9c01d7be",
        "config_hash": "9b1c6e07aa52d310",
        "seed": 1,
        "synthetic": False,
        "data_note": "",
        "classes": list(CLASSES),
        "sites": [
            {
                "site": site,
                "train": round(0.85 * sum(c)),
                "val": sum(c) - round(0.85 * sum(c)),
                "label_counts": dict(zip(CLASSES, c, strict=True)),
            }
            for site, c in zip(SITES, counts, strict=True)
        ],
        "test": {"n": 400, "label_counts": _test_counts(seed)},
        "pixel_mean": [0.4811],
        "pixel_std": [0.2364],
        "device": "cpu",
        "cpu_count": 2,
        "started": "2026-11-21T10:12:09",
        "seconds": 1483.2,
        "rounds": rounds,
        "best_round": best,
        "stopped": "no better validation MCC for 3 rounds",
        "deployment": "simulation",
        "strategy": "fedavg, weighted by images",
        "secure_aggregation": False,
        "parameters": 11_171_779,
    }
    (path / "run.json").write_text(json.dumps({**run, **changes}, indent=2))


def _write_history(path: Path, mcc: Any, best: int, generator: np.random.Generator) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, HISTORY)
        writer.writeheader()
        for index, value in enumerate(mcc):
            failed = int(index == 4)
            writer.writerow(
                {
                    "round": index + 1,
                    "seconds": round(110 + generator.normal(0, 4), 3),
                    "seconds_outside_training": round(6.1 + generator.normal(0, 0.4), 3),
                    "train_loss": round(1.02 * np.exp(-index / 5) + 0.12, 5),
                    "val_loss": round(0.95 * np.exp(-index / 3.5) + 0.42 + 0.008 * index, 5),
                    "val_accuracy": round(0.36 + 0.62 * value, 5),
                    "val_balanced_accuracy": round(0.33 + 0.64 * value, 5),
                    "val_mcc": round(value, 5),
                    "sites": 3 - failed,
                    "failed": failed,
                    "bytes_up": 44_700_000 * (3 - failed),
                    "bytes_down": 44_700_000 * 3,
                    "images_per_second": round(78 + generator.normal(0, 2), 2),
                    "best": index + 1 == best,
                }
            )


def _write_sites(path: Path, mcc: Any, generator: np.random.Generator) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, SITE_COLUMNS)
        writer.writeheader()
        for index, value in enumerate(mcc):
            for number, site in enumerate(SITES):
                row: dict[str, Any] = {"round": index + 1, "site": site, "status": "ok"}
                own = value - 0.03 - 0.015 * number + generator.normal(0, 0.012)
                if site == "paris" and index == 4:
                    row |= {"status": "failed", "reason": "no reply within 120 s"}
                elif site == "london" and index >= len(mcc) - 2:
                    row |= {"status": "evaluated", "val_loss": 0.52, "val_mcc": round(own, 4)}
                else:
                    row |= {
                        "num_examples": 600 - 90 * number,
                        "num_batches": 38 - 6 * number,
                        "epochs": 2,
                        "train_loss": round(1.05 * np.exp(-index / 5) + 0.1, 4),
                        "val_loss": round(1.0 * np.exp(-index / 3.5) + 0.44 + 0.02 * number, 4),
                        "val_accuracy": round(0.36 + 0.6 * own, 4),
                        "val_mcc": round(own, 4),
                        "stopped_early": number == 2 and index >= len(mcc) - 5,
                        "images_per_second": round(26 + generator.normal(0, 0.6), 1),
                        "seconds": round(101 - 9 * number + generator.normal(0, 2), 2),
                    }
                writer.writerow(row)


def _write_results(path: Path, seed: int) -> None:
    sharpness = {
        "federated": 2.05,
        "centralised": 2.1,
        "munich": 1.6,
        "paris": 1.35,
        "london": 1.25,
    }
    scores = {}
    for name, value in sharpness.items():
        labels, probabilities = predictions(400, value, seed)
        scores[name] = score(labels, probabilities, CLASSES).to_dict()
        if name == "federated":
            files = [f"img/{i:04d}.jpeg" for i in range(400)]
            patients = [f"p{i // 2}" for i in range(400)]
            class_predictions.write(
                path / "predictions.csv", files, patients, labels, probabilities, CLASSES
            )
    metrics = {
        "federated": scores["federated"],
        "centralised": scores["centralised"],
        "local": {site: scores[site] for site in SITES},
        "test": {"n": 400},
        "seconds": 1483.2,
    }
    (path / "metrics.json").write_text(json.dumps(metrics))
