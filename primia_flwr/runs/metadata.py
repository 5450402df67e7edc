"""What was run: the content of `run.json`, so that a result can be traced and repeated."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primia_flwr import __version__
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import config_hash
from primia_flwr.config.root import app_root
from primia_flwr.data.dataset import LabelledImages, SiteData
from primia_flwr.privacy.mechanisms.units import units_of
from primia_flwr.runs.history import EventTail
from primia_flwr.storage.reading import parse_json, read_text
from primia_flwr.training.device import device_name, pick_device

DEVICE_FILE = "device.json"
_PACKAGES = ("flwr", "torch", "torchvision", "hydra-core", "numpy", "scikit-learn", "wandb")


def run_facts(experiment: Experiment) -> dict[str, Any]:
    """Return what is known of a run before it starts."""
    secure, asynchronous = experiment.aggregation.secure, experiment.aggregation.asynchronous
    ways = {"secure aggregation": secure, "asynchronous": asynchronous}
    way = "".join(f", {name}" for name, taken in ways.items() if taken)
    return {
        "name": experiment.name,
        "status": "running",
        "versions": versions(),
        "git_commit": git_commit(app_root()),
        "config_hash": config_hash(experiment),
        "seed": experiment.seed,
        "deployment": experiment.deployment.kind,
        "strategy": f"{experiment.strategy.name}{way}",
        "secure_aggregation": secure,
        "seen": experiment.seen_words,
        "differential_privacy": experiment.privacy.mode,
        "device": device_name(pick_device(experiment.training.device)),
        "cpu_count": os.cpu_count(),
        "started": _now(),
    }


def continued(run_dir: Path) -> dict[str, Any]:
    """Return what a resumed run's facts keep of the processes before, to be read before a write.

    `started`: of the first; `resumed`: when each later one began, the present one last;
    `seconds_before`: how long they ran, one that was killed until its last event.
    """
    known = read_json(run_dir / "run.json")
    began = known.get("started")
    if not isinstance(began, str):
        return {"seconds_before": 0.0}
    later, seconds = known.get("resumed"), known.get("seconds")
    resumed = [str(one) for one in later] if isinstance(later, list) else []
    if not isinstance(seconds, int | float):
        before = known.get("seconds_before")
        seconds = _ran_for(run_dir, [began, *resumed][-1])
        seconds += before if isinstance(before, int | float) else 0
    return {"started": began, "resumed": [*resumed, _now()], "seconds_before": round(seconds, 1)}


def _ran_for(run_dir: Path, began: str) -> float:
    """Return the seconds from the start of a process to its last event."""
    times = [event.get("time") for event in EventTail(run_dir / "events.jsonl", whole=True).new()]
    try:
        since = datetime.datetime.fromisoformat(began).astimezone().timestamp()
    except ValueError:
        return 0.0
    known = [one for one in times if isinstance(one, int | float)]
    return max(0.0, max(known, default=since) - since)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def data_facts(
    sites: list[SiteData], test: LabelledImages | None, *, private_unit: str = ""
) -> dict[str, Any]:
    """Return what a simulation knows of its data: counts of images, never of a real site.

    Of a private run, whose claim is about what its files say of a unit (`private_unit`), each
    site's number of units alone, which is public: no count of images, none by class.
    """
    first = sites[0].train
    facts = {"synthetic": first.synthetic, "classes": list(first.classes)}
    if private_unit:
        counts = [{"site": s.name, f"{private_unit}s": _units(s, private_unit)} for s in sites]
        return {**facts, "sites": counts, "test": {"n": len(test)} if test else None}
    test_facts = {"n": len(test), "label_counts": label_counts(test)} if test else None
    return {**facts, "sites": [_site_facts(site) for site in sites], "test": test_facts}


def _site_facts(site: SiteData) -> dict[str, Any]:
    counts = label_counts(site.train)
    return {
        "site": site.name,
        "train": len(site.train),
        "val": len(site.val),
        "label_counts": counts,
    }


def _units(site: SiteData, unit: str) -> int:
    images = site.train.joined(site.val)
    return len(units_of(unit, images.patients, images.digests))


def label_counts(images: LabelledImages) -> dict[str, int]:
    """Return the number of images of each class, by the name of what is counted."""
    names = images.task.label_names(images.classes)
    return dict(zip(names, images.label_counts(), strict=True))


def versions() -> dict[str, str]:
    """Return the versions of Python, of primia_flwr and of what decides a result."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "primia-flwr": __version__, **found}


def git_commit(folder: Path) -> str:
    """Return the commit of a checkout, `-dirty` if it was changed since; empty outside of one."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()


def trained_on(run_dir: Path, sites: Sequence[str]) -> dict[str, str]:
    """Return the device of each simulated site that has said it, e.g. `cuda:0 (NVIDIA H200)`."""
    files = {name: run_dir / "sites" / name / DEVICE_FILE for name in sites}
    found = {name: read_json(file).get("device") for name, file in files.items()}
    return {name: device for name, device in found.items() if isinstance(device, str)}


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty where there is none."""
    try:
        value = parse_json(read_text(path), finite=False)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
