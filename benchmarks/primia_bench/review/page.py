"""The page of the measured review: generated, never written by hand."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy import stats

from primia_bench.review.store import NO_TIME, NOT_BEGUN
from primia_bench.review.systems import APP_MOVES, GATE_MOVES

NOT_RUN, ENDED = "not run", "the run stops"
_ARMS = {
    "runs": "scores", "seen": "what a party rebuilds", "flipped": "one site lies",
    "boosted": "and boosts", "more_sites": "more sites", "many_sites": "many sites",
    "failing": "failing", "killed": "killed", "moves": "moves",
}  # fmt: skip
_LONGEST = 60  # characters of what a site says that a cell repeats
_LONGEST_REASON = 160
_TEMPLATE = "review.md.jinja"


def page(found: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    folder = FileSystemLoader(Path(__file__).parent)
    # Markdown, not HTML; what stands in it is this module's own.
    pages = Environment(loader=folder, undefined=StrictUndefined, keep_trailing_newline=True)
    rows = [_row(name, row, found["splits"]) for name, row in found["rows"].items()]
    about = {
        "rows": rows, "missing": _missing(found),
        "pooled_many": _pooled_many(found), "commits": _commits(found),
        "gate_moves": list(GATE_MOVES.values()), "app_moves": list(APP_MOVES.values()),
    }  # fmt: skip
    return pages.get_template(_TEMPLATE).render(**{**found, **about})


def _row(name: str, row: dict[str, Any], splits: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "source": row["source"],
        "trusted": row["trusted"],
        "quality": [_of_split(row["runs"], split) for split in splits],
        "stressed": _stressed(row) if "failing" in row else [],
        "lies": [_mcc(row, "flipped"), _mcc(row, "boosted")],
        "more_sites": [_mcc(row, "more_sites"), _mcc(row, "many_sites")],
        "costs": _costs([run for run in row["runs"] if "bytes_a_site" in run]),
        "seen": [_seen(seen) for seen in row.get("seen", [])],
        "gate": _came_of(row, GATE_MOVES),
        "app": _came_of(row, APP_MOVES),
    }


def _pooled_many(found: dict[str, Any]) -> str:
    pooled = [_mcc(row, "many_sites") for name, row in found["rows"].items() if "pooled" in name]
    return pooled[0] if pooled else NOT_RUN


def _came_of(row: dict[str, Any], moves: Iterable[str]) -> list[str]:
    """Return what came of moves; nothing in a row without a coordinator."""
    if "moves" not in row:
        return []
    played = row["moves"].get("moves")
    return [_came(played[name]) if played else NOT_RUN for name in moves]


def _came(played: dict[str, str]) -> str:
    return f"{played['came']}: {_short(played['why'])}" if played["why"] else played["came"]


def _short(why: str) -> str:
    """Return the first part of what a site says, without its name and without hashes."""
    why = re.sub(r"^(site \w+ refuses|\w*(Error|Refusal)): ", "", why)
    return _cut(re.sub(r"\b[0-9a-f]{64} ", "", why).split(";")[0], _LONGEST)


def _cut(words: str, most: int = _LONGEST_REASON) -> str:
    words = words.replace("|", "/")
    return words if len(words) <= most else f"{words[:most].rsplit(' ', 1)[0]} ..."


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
    asked = sum(run["split"] == split for run in runs)
    fewer = f"; {len(mine)} of {asked} seeds" if len(mine) < asked else ""
    return f"{mean:.3f} ({np.mean(gaps):+.3f}{_interval(gaps)}{fewer})"


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
    """Return what was not run, and why: systems of the page's own list, then arms of rows."""
    failed: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name, arm, cell in _cells(found):
        if "not_run" in cell:
            failed[_ARMS[arm], cell["not_run"]].append(name)
    said = [
        (f"{arm}: {'; '.join(dict.fromkeys(names))}", _cut(why.removeprefix("error: ")))
        for (arm, why), names in failed.items()
        if not why.startswith(NOT_BEGUN)
    ]
    late = [
        name for (_, why), names in failed.items() if why.startswith(NOT_BEGUN) for name in names
    ]
    waiting = [(f"cells: {len(late)}, of {len(set(late))} rows", NO_TIME)] if late else []
    return [*found["not_run"].items(), *said, *waiting]


def _commits(found: dict[str, Any]) -> list[str]:
    """Return the commits at which cells were measured, the most frequent first."""
    count: defaultdict[str, int] = defaultdict(int)
    for _, _, cell in _cells(found):
        if cell.get("commit"):
            count[cell["commit"]] += 1
    return sorted(count, key=lambda commit: -count[commit])


def _cells(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, row in found["rows"].items():
        for arm in (arm for arm in _ARMS if arm in row):
            cells = row[arm] if isinstance(row[arm], list) else [row[arm]]
            yield from ((name, arm, cell) for cell in cells)
