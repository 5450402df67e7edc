"""The report's chapter on a federated search: what was tried, what it reached, what it cost.

Reads `search.json`, which the coordinator writes: all of it are sums over the sites.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from primia_flwr.errors import DataError
from primia_flwr.numbers import DASH, count, figure
from primia_flwr.reporting.page import render
from primia_flwr.reporting.plots.search import draw_history, draw_parallel, draw_values
from primia_flwr.runs.folder import read_object
from primia_flwr.storage.reading import check_entry, reading
from primia_flwr.tasks.task import Metric, Task

_FILE = "search.json"
_LEAST_FOR_RANKS = 5  # configurations, below which a rank correlation says nothing
_Entry = Mapping[str, Any]
_NUMBERS = (int, float)
_MISSING = type(None)
_FOUND = {
    "space": (dict,), "rungs": (list,), "configurations": (list,), "chosen": (int, _MISSING),
    "eta": (int,), "image_passes": _NUMBERS,
}  # fmt: skip
_CONFIGURATION = {
    "configuration": (int,), "values": (dict,), "status": (str,), "reason": (str,),
    "image_passes": _NUMBERS, "rounds": (int,), "best_round": (int, _MISSING),
    "loss": (*_NUMBERS, _MISSING), "rungs": (list,),
}  # fmt: skip


def search_chapter(run_dir: Path, task: Task) -> Markup:
    """Return the chapter as HTML; nothing where the run was no search.

    Raises
    ------
    DataError
        If search.json cannot be read.
    """
    aim = task.aim
    found = read_search(run_dir, aim)
    if not found:
        return Markup("")
    entries, ranks = ranked(found, aim), rank_correlations(found, aim)
    strongest = [key for key, _, _ in ranks]
    others = [key for key in found["space"] if key not in strongest]
    keys = [*strongest, *others]
    plots = [draw_history(found, aim), draw_values(found, aim), draw_parallel(found, keys, aim)]
    rungs = [f"{aim.title} after {rung['rounds']}" for rung in found["rungs"]]
    return Markup(
        render(
            "search.html",
            found=found,
            aim=aim,
            counted=task.counted,
            headings=["No.", "Became", "Rounds", *rungs, "Loss", "Image passes", "Values"],
            lines=[_line(entry, len(rungs), aim) for entry in entries],
            overrides=overrides(found),
            ranks=ranks,
            rank_lines=[[key, figure(value, 2)] for key, value, _ in ranks],
            plots=[plot for plot in plots if plot],
        )
    )


def read_search(run_dir: Path, aim: Metric) -> dict[str, Any]:
    """Return the content of search.json, which a metric decided; empty where there is none.

    Raises
    ------
    DataError
        If it is not what a search writes.
    """
    path = run_dir / _FILE
    if not path.is_file():
        return {}
    with reading(path, error=DataError, expected="the file as the search wrote it; copy it again"):
        found = read_object(path)
        _check(found, aim)
    return found


def _check(found: Any, aim: Metric) -> None:
    check_entry(found, _FOUND)
    for key in found["space"]:
        check_entry(found["space"][key], {})
    for rung in found["rungs"]:
        check_entry(rung, {"configurations": (int,), "rounds": (int,)})
    for number, entry in enumerate(found["configurations"]):
        check_entry(entry, _CONFIGURATION | {aim.name: (*_NUMBERS, _MISSING)})
        if entry["configuration"] != number:
            raise ValueError(f"configuration {entry['configuration']} in the place of {number}")
        for rung in entry["rungs"]:
            check_entry(rung, {"rounds": (int,), aim.name: (*_NUMBERS, _MISSING)})
    if found["chosen"] is not None and not 0 <= found["chosen"] < len(found["configurations"]):
        raise ValueError(f"chosen={found['chosen']} is none of its configurations")


def ranked(found: Mapping[str, Any], aim: Metric) -> list[_Entry]:
    """Return the configurations: those that came further first, of them the better ones."""

    def key(entry: _Entry) -> tuple[bool, int, float, int]:
        reached = math.inf if entry[aim.name] is None else -aim.rising(entry[aim.name])
        chosen = entry["configuration"] == found["chosen"]
        return (not chosen, -len(entry["rungs"]), reached, entry["configuration"])

    return sorted(found["configurations"], key=key)


def overrides(found: Mapping[str, Any]) -> str:
    """Return the chosen configuration as words for the command line; nothing for the default."""
    if found["chosen"] is None:
        return ""
    values = found["configurations"][found["chosen"]]["values"]
    return " ".join(
        f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in values.items()
    )


def rank_correlations(found: Mapping[str, Any], aim: Metric) -> list[tuple[str, float, int]]:
    """Return Spearman's rank correlation of each number with the objective after the first rung.

    Only there all configurations had as many rounds. Those that diverged are not in it.

    Returns
    -------
    list of (key, correlation, configurations)
        The strongest first; nothing with fewer than five configurations.
    """
    entries = [entry for entry in found["configurations"] if entry["values"] and entry["rungs"]]
    if len(entries) < _LEAST_FOR_RANKS:
        return []
    from scipy.stats import spearmanr  # heavy, and few runs are a search

    reached = np.array([entry["rungs"][0][aim.name] for entry in entries])
    rows = []
    for key in found["space"]:
        values = [entry["values"].get(key) for entry in entries]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if numbers and len(set(values)) > 1 and len(set(reached)) > 1:
            rows.append((key, float(spearmanr(values, reached).statistic), len(entries)))
    return sorted(rows, key=lambda row: -abs(row[1]))


def _line(entry: _Entry, rungs: int, aim: Metric) -> list[str]:
    reached = [figure(rung[aim.name]) for rung in entry["rungs"]]
    return [
        str(entry["configuration"]),
        entry["status"],
        str(entry["rounds"]),
        *(reached + [DASH] * rungs)[:rungs],
        figure(entry["loss"]),
        count(entry["image_passes"]),
        _values(entry) + (f" ({entry['reason']})" if entry["reason"] else ""),
    ]


def _values(entry: _Entry) -> str:
    """Return a configuration in words, with four digits for numbers."""
    if not entry["values"]:
        return "the experiment's own"
    return ", ".join(f"{_short(key)} {_text(value)}" for key, value in entry["values"].items())


def _short(key: str) -> str:
    return key.removeprefix("training.").removeprefix("data.augmentation.").removeprefix("data.")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
