"""The trials of a search as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from primia_flwr.numbers import shown
from primia_flwr.tasks.task import Metric

_ROWS = 25


def trials_table(found: Mapping[str, Any], metric: Metric) -> Table:
    """Return the best trials first, then those without a score; long searches are cut."""
    words = f"validation {metric.words}"
    trials = sorted(found["trials"], key=lambda trial: _rank(trial, metric))
    title = f"{len(trials)} trials, by {words}"
    if len(trials) > _ROWS:
        title += f" (the first {_ROWS}; all in sweep.json)"
    table = Table(title=title, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(words, justify="right")
    table.add_column("rounds", justify="right")
    table.add_column("outcome")
    table.add_column("values", overflow="fold")
    for trial in trials[:_ROWS]:
        values = ", ".join(f"{k.rpartition('.')[2]} {shown(v)}" for k, v in trial["values"].items())
        what = trial["outcome"] + (" (default)" if trial["default"] else "")
        reached = trial[metric.column]
        score = "-" if reached is None else f"{reached:.3f}"
        table.add_row(str(trial["trial"]), score, str(trial["rounds"]), what, values)
    return table


def _rank(trial: Mapping[str, Any], metric: Metric) -> tuple[bool, float, int]:
    score = trial[metric.column]
    return score is None, -metric.rising(score or 0.0), trial["trial"]
