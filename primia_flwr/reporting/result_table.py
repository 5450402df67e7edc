"""The result table: federated, each hospital alone, pooled; in the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from primia_flwr.numbers import figure
from primia_flwr.runs.folder import results_by_name
from primia_flwr.tasks.classes.scores import Scores

HEADINGS = ("Accuracy", "Balanced accuracy", "MCC", "ROC-AUC")


def cells(scores: Scores) -> list[str]:
    """Return the figures under `HEADINGS` with three decimals, a dash where undefined."""
    values = (scores.accuracy, scores.balanced_accuracy, scores.mcc, scores.roc_auc)
    return [figure(value) for value in values]


def results_table(metrics: Mapping[str, Any]) -> Table:
    """Return the terminal table for the content of metrics.json."""
    results = results_by_name(metrics)
    images = next(iter(results.values())).n if results else 0
    table = Table(title=f"Results on {images} test images", title_justify="left")
    table.add_column("Model")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for name, scores in results.items():
        table.add_row(name, *cells(scores), style="bold" if name == "Federated" else "")
    return table


def scores_table(scores: Scores, *, title: str) -> Table:
    """Return the terminal table of one model's figures over all classes."""
    table = Table(title=title, title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    table.add_row(*cells(scores))
    return table


def class_table(scores: Scores, *, title: str) -> Table:
    """Return the terminal table of one model's figures per class."""
    table = Table(title=title, title_justify="left")
    table.add_column("Class")
    for heading in ("Images", "Sensitivity", "Specificity", "ROC-AUC"):
        table.add_column(heading, justify="right")
    for name, s in scores.per_class.items():
        rates = (figure(v) for v in (s.sensitivity, s.specificity, s.roc_auc))
        table.add_row(name, str(s.n), *rates)
    return table
