"""One run of one system on one split, and what the table says of it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from primia_bench.review.patients import write_manifest
from primia_bench.review.systems import LOCAL, PLAIN, POOLED, System
from primia_flwr.config.load import load_experiment
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage import plain_csv

ENOUGH = 0.95  # of the pooled model's MCC


@dataclass(frozen=True)
class Bench:
    """Where everything lies and how large it is."""

    root: Path
    work: Path
    rounds: int
    sites: int
    size: int

    def train(self, name: str, split: str, seed: int, *overrides: str) -> Path:
        """Train, unless it is done; return the run's folder."""
        folder = self.work / f"{name}-{split}-{seed}".replace(" ", "-").replace(",", "")
        if not (folder / "metrics.json").exists():
            manifest = write_manifest(self.root, split, sites=self.sites, seed=seed)
            primia("train", *self._common(manifest, seed), f"output_dir={folder}", *overrides)
        return folder

    def _common(self, manifest: Path, seed: int) -> list[str]:
        names = ",".join(f"site-{n + 1}" for n in range(self.sites))
        return [
            "experiment=demo", "data=manifest", f"data.manifest={manifest}",
            f"data.root={self.root}", "data.partition.kind=manifest", "baselines=[]",
            f"data.image_size={self.size}", f"federation.rounds={self.rounds}",
            f"federation.sites=[{names}]", f"federation.min_sites={self.sites}",
            f"data.cache_dir={self.work / 'cache'}", f"seed={seed}", "tracking=disabled",
            "quiet=true", "report.saliency=0", "training.threads=1",
        ]  # fmt: skip


def primia(*arguments: str) -> None:
    """Run a command in a process of its own.

    Raises
    ------
    RuntimeError
        With the last thing that it said, if it fails.
    """
    command = [sys.executable, "-m", "primia_flwr.cli.main", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(said[-1] if said else f"exit code {done.returncode}")


def measure(bench: Bench, system: System, split: str, seed: int) -> dict[str, Any]:
    """Return the figures of one system on one split with one seed."""
    reference = bench.train("plain", split, seed, PLAIN, f"baselines=[{LOCAL},{POOLED}]")
    scores = read_json(reference / "metrics.json")
    pooled = scores[POOLED]["mcc"]
    found: dict[str, Any] = {"split": split, "seed": seed, "pooled_mcc": pooled}
    if system.baseline == POOLED:
        return {**found, "mcc": pooled, "roc_auc": scores[POOLED]["roc_auc"]}
    if system.baseline == LOCAL:
        of = scores[LOCAL].values()
        return {**found, **{k: float(np.mean([s[k] for s in of])) for k in ("mcc", "roc_auc")}}
    run = reference if system.overrides == (PLAIN,) else _run(bench, system, split, seed)
    return {**found, **_scores(run), **_costs(run, pooled, bench.sites)}


def _run(bench: Bench, system: System, split: str, seed: int) -> Path:
    words = list(system.overrides)
    if "strategy=single" in words:  # as many passes in its one round as the others in all
        words += ["federation.rounds=1", f"training.local_epochs={bench.rounds}"]
    return bench.train(system.name, split, seed, *words)


def _scores(run: Path) -> dict[str, Any]:
    found = read_json(run / "metrics.json")["federated"]
    facts = read_json(run / "run.json")
    experiment = load_experiment((run / "config.yaml").read_text(encoding="utf-8"))
    interval = read_json(run / "evidence.json")["figures"]["Federated"]["mcc"]
    return {
        "mcc": found["mcc"],
        "mcc_interval": [interval[key] for key in ("low", "high")],
        "roc_auc": found["roc_auc"],
        "epsilon": experiment.privacy.promised_epsilon or None,
        "seconds": facts["seconds"],
    }


def _costs(run: Path, pooled: float, sites: int) -> dict[str, Any]:
    """Return bytes a site, of all rounds and until the validation is nearly as good as pooled."""
    with (run / "history.csv").open(encoding="utf-8") as stream:
        rows = list(plain_csv.DictReader(stream))
    sent = np.cumsum([int(row["bytes_up"]) + int(row["bytes_down"]) for row in rows]) / sites
    good = [i for i, row in enumerate(rows) if float(row["val_mcc"] or -1) >= ENOUGH * pooled]
    enough = round(sent[good[0]]) if good else None
    return {"bytes_a_site": round(sent[-1]), "bytes_a_site_until_enough": enough}


def seen_by(bench: Bench, system: System, split: str, options: list[str]) -> list[dict[str, Any]]:
    """Return how alike an attack's pictures are to the images behind what each party got."""
    return [
        _attacked(bench, system, split, party, target, options) for party, target in system.sees
    ]


def _attacked(
    bench: Bench, system: System, split: str, party: str, target: str, options: list[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {"party": party, "target": target}
    try:
        run = bench.train(
            f"recorded {system.name}", split, 1, *(system.recorded or system.overrides),
            "debug.record_received=true", "federation.rounds=2", "training=sgd",
            "training.momentum=0", "training.weight_decay=0", "training.schedule=constant",
            "training.warmup=0", "training.learning_rate=0.01", "training.batch_size=8",
            "training.sync_every_n_batches=1", "model.norm=group",
        )  # fmt: skip
        folder = run / "attack" / target
        if not (folder / "attack.json").exists():
            words = (f"run={run}", f"target={target}", f"output={folder}", "quiet=true")
            primia("attack", *words, *options)
    except RuntimeError as error:
        return {**row, "not_run": str(error).replace(str(bench.work), "")}
    found = read_json(folder / "attack.json")["arms"]
    mine, control = found[target], found["noise"]
    return {
        **row,
        "ssim": round(mine["mean_ssim"], 3),
        "ssim_of_random_numbers": round(control["mean_ssim"], 3),
        "identified": mine["identified_by_pixels"],
    }
