"""One run of one system on one split, and what the table says of it."""

import hashlib
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np

from primia_bench.review.in_memory import LOST
from primia_bench.review.patients import FLIPPED, SPLITS, write_manifest, write_patients
from primia_bench.review.store import NO_TIME
from primia_bench.review.systems import LOCAL, PLAIN, POOLED, System
from primia_flwr.config.load import load_experiment
from primia_flwr.runs.metadata import read_json
from primia_flwr.storage import plain_csv

ENOUGH = 0.95  # of the pooled model's MCC
_FEW = 20  # hospitals that are trained by themselves, too
_LONG = 20  # seconds that an asynchronous round waits for a site
_MODEL = "model.safetensors"
_LOCKS: defaultdict[Path, Lock] = defaultdict(Lock)
"""What two measurements need is made once."""


@dataclass(frozen=True)
class Bench:
    """Where everything lies and how large it is.

    `until`: of time.monotonic(); no run is begun later. `pooled`: the MCC of pooled training where
    it is known, by sites, split and seed.
    """

    work: Path
    rounds: int
    sites: int
    size: int
    patients: int
    until: float = math.inf
    pooled: dict[tuple[int, str, int], float] = field(default_factory=dict, compare=False)

    def train(
        self,
        name: str,
        split: str,
        seed: int,
        *overrides: str,
        asked: Mapping[str, float] | None = None,
    ) -> Path:
        """Train, unless it is done; return the run's folder. `asked`: of `review.in_memory`."""
        folder = self.folder(name, split, seed)
        with _LOCKS[folder]:
            if not (folder / "metrics.json").exists():
                self._train(folder, split, seed, overrides, asked)
        return folder

    def _train(
        self,
        folder: Path,
        split: str,
        seed: int,
        overrides: Sequence[str],
        asked: Mapping[str, float] | None,
    ) -> None:
        if time.monotonic() > self.until:
            raise RuntimeError(NO_TIME)
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        with _LOCKS[self.work]:
            root = write_patients(self.work, patients=self.patients, seed=0)
        manifest = write_manifest(root, split, sites=self.sites, seed=seed)
        words = (*self._common(root, manifest, seed), f"output_dir={folder}", *overrides)
        primia("train", *words, asked=asked)

    def folder(self, name: str, split: str, seed: int) -> Path:
        """Return where a run lies."""
        of = f"{name}-{self.patients}-{self.rounds}-{self.sites}-{split}-{seed}"
        return self.work / re.sub(r"[^\w.]+", "-", of)

    def _common(self, root: Path, manifest: Path, seed: int) -> list[str]:
        names = ",".join(f"site-{n + 1}" for n in range(self.sites))
        return [
            "experiment=demo", "data=manifest", f"data.manifest={manifest}",
            f"data.root={root}", "data.partition.kind=manifest", "baselines=[]",
            f"data.image_size={self.size}", f"federation.rounds={self.rounds}",
            f"federation.sites=[{names}]", f"federation.min_sites={self.sites}",
            f"data.cache_dir={self.work / 'cache'}", f"seed={seed}", "tracking=disabled",
            "quiet=true", "report.saliency=0", "training.threads=1",
        ]  # fmt: skip


def primia(*arguments: str, asked: Mapping[str, float] | None = None) -> None:
    """Run a command in a process of its own, with its sites in memory.

    Raises
    ------
    RuntimeError
        With the last thing that it said, if it fails.
    """
    command = [sys.executable, "-m", "primia_bench.review.in_memory", json.dumps(asked or {})]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        raise KilledError
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(said[-1] if said else f"exit code {done.returncode}")


class KilledError(Exception):
    """The process of a run was killed, as it was asked to be."""


def reference(bench: Bench, split: str, seed: int) -> Path:
    """Return the plain run, with all images in one place and, of few hospitals, with each alone."""
    baselines = [LOCAL, POOLED] if bench.sites <= _FEW else [POOLED]
    return bench.train("plain", split, seed, PLAIN, f"baselines=[{','.join(baselines)}]")


def measure(bench: Bench, system: System, split: str, seed: int) -> dict[str, Any]:
    """Return the figures of one system on one split with one seed."""
    pooled = _pooled_mcc(bench, split, seed)
    found: dict[str, Any] = {"pooled_mcc": pooled}
    if system.baseline:
        return {**found, **_baseline(system, reference(bench, split, seed))}
    plain = system.overrides == (PLAIN,)
    run = reference(bench, split, seed) if plain else _run(bench, system, split, seed)
    return {**found, **_scores(run), **_costs(run, pooled, bench.sites)}


def _pooled_mcc(bench: Bench, split: str, seed: int) -> float:
    place = (bench.sites, split, seed)
    if place not in bench.pooled:
        scores = read_json(reference(bench, split, seed) / "metrics.json")
        bench.pooled[place] = scores[POOLED]["mcc"]
    return bench.pooled[place]


def _baseline(system: System, run: Path) -> dict[str, float]:
    scores = read_json(run / "metrics.json")[system.baseline]
    of = scores.values() if system.baseline == LOCAL else [scores]
    return {key: float(np.mean([score[key] for score in of])) for key in ("mcc", "roc_auc")}


def _run(bench: Bench, system: System, split: str, seed: int) -> Path:
    return bench.train(system.name, split, seed, *_words(bench, system))


def _words(bench: Bench, system: System) -> tuple[str, ...]:
    """Return a system's words, with as many image passes in all as the others make."""
    if system.one_round:
        longer = ("federation.rounds=1", f"training.local_epochs={bench.rounds}")
        return (*system.overrides, *longer)
    if system.updates:
        rounds = round(bench.rounds * bench.sites / system.updates)
        return (*system.overrides, f"federation.rounds={rounds}")
    return system.overrides


def _scores(run: Path) -> dict[str, Any]:
    found = read_json(run / "metrics.json")["federated"]
    experiment = load_experiment((run / "config.yaml").read_text(encoding="utf-8"))
    interval = read_json(run / "evidence.json")["figures"]["Federated"]["mcc"]
    return {
        "mcc": found["mcc"],
        "mcc_interval": [interval[key] for key in ("low", "high")],
        "roc_auc": found["roc_auc"],
        "epsilon": experiment.privacy.promised_epsilon or None,
        "processor_seconds": read_json(run / LOST)["processor_seconds"],
    }


def _costs(run: Path, pooled: float, sites: int) -> dict[str, Any]:
    """Return bytes a site, of all rounds and until the validation is nearly as good as pooled."""
    with (run / "history.csv").open(encoding="utf-8") as stream:
        rows = list(plain_csv.DictReader(stream))
    sent = np.cumsum([int(row["bytes_up"]) + int(row["bytes_down"]) for row in rows]) / sites
    good = [i for i, row in enumerate(rows) if float(row["val_mcc"] or -1) >= ENOUGH * pooled]
    enough = round(sent[good[0]]) if good else None
    return {"bytes_a_site": round(sent[-1]), "bytes_a_site_until_enough": enough}


def boosted(bench: Bench, system: System, seed: int) -> dict[str, Any]:
    """Return the score where a site turns its labels, and sends its update once for each site."""
    name, asked = f"boosted {system.name}", {"boost": bench.sites}
    run = bench.train(name, FLIPPED, seed, *_words(bench, system), asked=asked)
    return {"mcc": read_json(run / "metrics.json")["federated"]["mcc"]}


def failing(bench: Bench, system: System, seed: int, share: float) -> dict[str, Any]:
    """Return the score where a share of the sites fails in each round, and how many did."""
    # Sites in memory answer one after the other: whose answers are late, and not lost, need longer.
    patience = _LONG if system.updates else 1
    wait = f"federation.round_timeout={patience}"
    words = (*_words(bench, system), wait, "federation.min_sites=3")
    if system.secure:
        words += ("aggregation.allow_other_survivors=true",)
    run = bench.train(f"failing {system.name}", SPLITS[0], seed, *words, asked={"failing": share})
    mcc = read_json(run / "metrics.json")["federated"]["mcc"]
    return {"mcc": mcc, "lost": read_json(run / LOST)["lost"]}


def killed(bench: Bench, system: System, seed: int) -> dict[str, Any]:
    """Kill the coordinator midway, go on; say whether the model is that of the unbroken run."""
    if system.one_round:
        return {"not_run": "one round: no checkpoint before its end"}
    plain = system.overrides == (PLAIN,)
    whole = reference(bench, SPLITS[0], seed) if plain else _run(bench, system, SPLITS[0], seed)
    name = f"killed {system.name}"
    folder = bench.folder(name, SPLITS[0], seed)
    try:
        midway = {"dies_in": 1 + bench.rounds // 2}
        bench.train(name, SPLITS[0], seed, *_words(bench, system), asked=midway)
    except KilledError:
        primia("train", f"resume={folder}", "quiet=true")
    mcc = read_json(folder / "metrics.json")["federated"]["mcc"]
    same = (folder / _MODEL).read_bytes() == (whole / _MODEL).read_bytes()
    return {"mcc": mcc, "same_model": same}


def recorded_words(system: System) -> tuple[str, ...]:
    """Return the settings of the run in which a system's bytes are recorded."""
    return system.recorded or system.overrides


def seen_by(
    bench: Bench, system: System, split: str, target: str, options: Sequence[str]
) -> dict[str, Any]:
    """Return how alike an attack's pictures are to the images behind what a party got."""
    words = recorded_words(system)
    run = bench.train(
        f"recorded {hashlib.sha256(repr(words).encode()).hexdigest()[:16]}", split, 1, *words,
        "debug.record_received=true", "federation.rounds=2", "training=sgd",
        "training.momentum=0", "training.weight_decay=0", "training.schedule=constant",
        "training.warmup=0", "training.learning_rate=0.01", "training.batch_size=8",
        "training.sync_every_n_batches=1", "training.min_learning_rate=1e-6", "model.norm=group",
    )  # fmt: skip
    folder = run / "attack" / target
    with _LOCKS[folder]:
        if not (folder / "attack.json").exists():
            asked = (f"run={run}", f"target={target}", f"output={folder}", "quiet=true")
            primia("attack", *asked, *options)
    found = read_json(folder / "attack.json")["arms"]
    mine, control = found[target], found["noise"]
    return {
        "ssim": round(mine["mean_ssim"], 3),
        "ssim_of_random_numbers": round(control["mean_ssim"], 3),
        "identified": mine["identified_by_pixels"],
    }


def played(bench: Bench, system: System, moves: Sequence[str]) -> dict[str, Any]:
    """Return what came of a hostile coordinator's moves, each played against a real site half."""
    if time.monotonic() > bench.until:
        raise RuntimeError(NO_TIME)
    with TemporaryDirectory() as folder:
        words = (json.dumps(system.overrides), str(Path(folder) / "lab"))
        command = [sys.executable, "-m", "primia_bench.review.moves", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["exit code"])[-1])
    found: dict[str, Any] = json.loads(done.stdout)
    if list(found["moves"]) != list(moves):
        raise RuntimeError(f"moves {list(found['moves'])}; expected {list(moves)}")
    return found
