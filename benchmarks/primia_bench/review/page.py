"""The page of the measured review: generated, never written by hand."""

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy import stats

NOT_RUN, ENDED = "not run", "the run stops"
_ARMS = ("flipped", "boosted", "more_sites", "failing", "killed")
_TEMPLATE = "review.md.jinja"


def page(found: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    folder = FileSystemLoader(Path(__file__).parent)
    # Markdown, not HTML; what stands in it is this module's own.
    pages = Environment(loader=folder, undefined=StrictUndefined, keep_trailing_newline=True)
    rows = [_row(name, row, found["splits"]) for name, row in found["rows"].items()]
    return pages.get_template(_TEMPLATE).render(
        **{**found, "rows": rows, "missing": _missing(found)}
    )


def _row(name: str, row: dict[str, Any], splits: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "source": row["source"],
        "trusted": row["trusted"],
        "quality": [_of_split(row["runs"], split) for split in splits],
        "stressed": _stressed(row) if "failing" in row else [],
        "lies": [_mcc(row, "flipped"), _mcc(row, "boosted")],
        "more_sites": _mcc(row, "more_sites"),
        "costs": _costs([run for run in row["runs"] if "bytes_a_site" in run]),
        "seen": [_seen(seen) for seen in row.get("seen", [])],
    }


def _mcc(row: dict[str, Any], arm: str) -> str:
    found = row.get(arm, {})
    if "mcc" in found:
        return f"{found['mcc']:.3f}"
    return ENDED if found.get("not_run", "").startswith("error:") else NOT_RUN


def _stressed(row: dict[str, Any]) -> list[str]:
    lost, killed = row["failing"].get("lost"), row["killed"]
    answers = f"{sum(lost.values())}" if lost else NOT_RUN
    same = {True: "the same", False: f"another, {_mcc(row, 'killed')}"}
    return [answers, _mcc(row, "failing"), same.get(killed.get("same_model"), NOT_RUN)]


def _of_split(runs: list[dict[str, Any]], split: str) -> str:
    mine = [run for run in runs if run["split"] == split and "mcc" in run]
    if not mine:
        return NOT_RUN
    gaps = [run["mcc"] - run["pooled_mcc"] for run in mine]
    mean = float(np.mean([run["mcc"] for run in mine]))
    return f"{mean:.3f} ({np.mean(gaps):+.3f}{_interval(gaps)})"


def _interval(values: list[float]) -> str:
    spread = stats.sem(values) if len(values) > 1 else 0.0
    if not spread:
        return ""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), spread)
    return f", {low:+.3f} to {high:+.3f}"


def _costs(runs: list[dict[str, Any]]) -> list[str]:
    if not runs:
        return []
    enough = "bytes_a_site_until_enough"
    there = [run for run in runs if run[enough]]
    epsilon = [run["epsilon"] for run in runs if run["epsilon"] is not None]
    return [
        f"{np.mean([run['bytes_a_site'] for run in runs]) / 1e6:.1f}",
        f"{np.mean([run[enough] for run in there]) / 1e6:.1f}" if there else "",
        f"{len(there)} of {len(runs)}",
        f"{np.mean([run['processor_seconds'] for run in runs]):.0f}",
        f"{max(epsilon):.2f}" if epsilon else "none promised",
    ]


def _seen(seen: dict[str, Any]) -> list[str]:
    who = f"{seen['party']} ({seen['target']})"
    if "not_run" in seen:
        return [who, *[NOT_RUN] * 3]
    hits = seen["identified"]
    random = f"{seen['ssim_of_random_numbers']:.2f}"
    return [who, f"{seen['ssim']:.2f}", random, f"{hits['hits']} of {hits['n']}"]


def _missing(found: dict[str, Any]) -> list[tuple[str, str]]:
    failed = {
        name: run["not_run"]
        for name, row in found["rows"].items()
        for run in (*row["runs"], *row.get("seen", []), *(row.get(arm, {}) for arm in _ARMS))
        if "not_run" in run
    }
    return [*found["not_run"].items(), *failed.items()]
