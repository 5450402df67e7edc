"""The report's chapters on the run itself: what was run, on which data, and what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from primia_flwr.numbers import DASH, count, duration, size
from primia_flwr.runs.folder import RunFolder, column
from primia_flwr.tasks.task import Task

_CITATIONS = {
    "pneumonia": (
        "Kermany D, Zhang K, Goldbaum M (2018). Labeled Optical Coherence Tomography (OCT) and "
        "Chest X-Ray Images for Classification. Mendeley Data, V2, doi:10.17632/rscbjbr9sj.2. "
        "Licence: CC BY 4.0."
    )
}
# what a run writes down when it ends -> what that means
_ENDS = {
    "rounds": "all rounds were run",
    "early-stopping": "no better model for a while",
    "sites-stopped": "too few sites still trained",
}


def run_chapter(folder: RunFolder, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts, the images of each site by class, and whose data they are."""
    run = folder.run
    layout = run.get("data_layout") or config.get("data", {}).get("layout", "")
    test = run.get("test") or {}
    classes = list(folder.task.label_names(run.get("classes", [])))
    parts = [(s.get("site", "?"), s.get("train"), s.get("val"), s) for s in run.get("sites", [])]
    if test.get("n"):
        parts.append(("Test set", None, None, test))
    return {
        "facts": [(key, str(value)) for key, value in _facts(run, config).items() if value],
        "versions": run.get("versions", {}),
        "classes": classes,
        "sites": run.get("sites", []),
        "site_counts": [
            [name, count(train), count(val), *_by_class(counts, classes)]
            for name, train, val, counts in parts
        ],
        "all_counts": _all_counts(run, classes, folder.task),
        "test": test,
        "citation": _CITATIONS.get(layout, "") if run.get("deployment") != "deployment" else "",
    }


def cost_chapter(folder: RunFolder) -> list[tuple[str, str]]:
    """Return the sums under the timings; nothing where no round was completed."""
    history = folder.history
    if not history:
        return []
    sums = {
        key: float(np.nansum(column(history, key)))
        for key in ("seconds", "seconds_outside_training", "bytes_up", "bytes_down")
    }
    seconds, outside, up, down = sums.values()
    speed = column(history, "images_per_second")
    return [
        ("Whole run", duration(folder.run.get("seconds"))),
        ("All rounds", duration(seconds)),
        ("Outside training", f"{duration(outside)} ({outside / len(history):.1f} s a round)"),
        ("Images per second", f"{np.nanmean(speed):.0f}" if np.isfinite(speed).any() else DASH),
        ("Sent by the sites", f"{size(up)} ({size(up / len(history))} a round)"),
        ("Sent to the sites", f"{size(down)} ({size(down / len(history))} a round)"),
    ]


def _facts(run: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    model, side = config.get("model", {}), config.get("data", {}).get("image_size")
    best = f", best after round {run['best_round']}" if run.get("best_round") else ""
    sides = (run.get("image_sides") or {}).items()  # a histogram of sizes
    return {
        "Name": run.get("name"),
        "Status": run.get("status"),
        "Ended because": _ENDS.get(run.get("stopped", ""), run.get("stopped")),
        "Started": _times([run.get("started", "")]),
        "Resumed": _times(run.get("resumed") or []),
        "Duration": duration(run.get("seconds")),
        "Rounds": f"{run.get('rounds', 0)}{best}",
        "Sites": f"{len(run.get('sites', []))}, {run.get('deployment', '')}",
        "Strategy": run.get("strategy"),
        "Model": f"{model.get('name', '')}, {count(run.get('parameters'))} parameters",
        "Images": f"{side} × {side}" if side else "",  # noqa: RUF001
        "Shorter side as stored": ", ".join(f"{name}: {count(n)}" for name, n in sides if n),
        "Seed": str(run.get("seed", "")),
        "Device": _device(run),
        "Git commit": run.get("git_commit") or "unknown",
        "Config hash": run.get("config_hash"),
    }


def _device(run: Mapping[str, Any]) -> str:
    """Return the devices that the simulated sites have named, else the coordinator's."""
    devices = sorted(set((run.get("devices") or {}).values())) or [str(run.get("device", ""))]
    return f"{', '.join(devices)}; {run.get('cpu_count', '?')} CPU cores"


def _times(times: Sequence[Any]) -> str:
    return ", ".join(str(one).replace("T", " ") for one in times)


def _all_counts(run: Mapping[str, Any], classes: list[str], task: Task) -> list[list[str]]:
    """Return the training images of all sites together, by class, where nothing else is known."""
    counts = run.get("label_counts")
    if not isinstance(counts, list) or len(counts) != len(classes):
        return []
    if not all(isinstance(n, int | float) for n in counts) or not sum(counts):
        return []
    return [["All sites", count(task.labelled(counts)), *map(count, counts)]]


def _by_class(counts: Mapping[str, Any], classes: list[str]) -> list[str]:
    return [count(counts.get("label_counts", {}).get(name)) for name in classes]
