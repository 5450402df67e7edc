"""The result table: federated, local, centralised; in the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from primia_flwr.numbers import figure
from primia_flwr.runs.folder import results_by_name
from primia_flwr.tasks.judge import Judge, ModelScores


def headings(judge: Judge) -> list[str]:
    """Return the names of the tested figures."""
    return [metric.title for metric in judge.tested]


def cells(judge: Judge, scores: ModelScores) -> list[str]:
    """Return the figures under `headings` with three decimals, a dash where undefined."""
    figures = scores.figures()
    return [figure(figures[metric.name]) for metric in judge.tested]


def results_table(metrics: Mapping[str, Any], judge: Judge) -> Table:
    """Return the terminal table for the content of metrics.json."""
    results = results_by_name(metrics, judge)
    images = next(iter(results.values())).n if results else 0
    table = Table(title=f"Results on {images} test images", title_justify="left")
    table.add_column("Model")
    for heading in headings(judge):
        table.add_column(heading, justify="right")
    for name, scores in results.items():
        table.add_row(name, *cells(judge, scores), style="bold" if name == "Federated" else "")
    return table


def scores_table(judge: Judge, scores: ModelScores, *, title: str) -> Table:
    """Return the terminal table of one model's tested figures."""
    table = Table(title=title, title_justify="left")
    for heading in headings(judge):
        table.add_column(heading, justify="right")
    table.add_row(*cells(judge, scores))
    return table
