"""The report's tables round by round: the global model, and every site with what it cannot show."""

from collections.abc import Sequence
from typing import Any

from primia_flwr.numbers import DASH, figure
from primia_flwr.runs.folder import Row, RunFolder, flag, number
from primia_flwr.tasks.task import LOSS, Metric, Task

_Columns = tuple[tuple[str, str, int | None], ...]
"""Heading, key of the CSV file, digits (None: as it stands)."""

_TRAINED: _Columns = (("Round", "round", None), ("Training loss", "train_loss", 3))
_COUNTED: _Columns = (
    ("Sites", "sites", None), ("Failed", "failed", None), ("Seconds", "seconds", 1)
)  # fmt: skip
_AT_SITE: _Columns = (
    ("Images", "num_examples", None),
    ("Batches", "num_batches", None),
    ("Epochs", "epochs", None),
    ("Staleness", "staleness", None),
    ("Training loss", "train_loss", 3),
)
_SPEED: _Columns = (("Images/s", "images_per_second", 0), ("Seconds", "seconds", 1))
# status -> (symbol, meaning); the order is the legend's
_SYMBOLS = {
    "ok": ("●", "trained"),
    "stopped": ("◐", "trained, stopped early"),
    "evaluated": ("○", "evaluated only"),
    "busy": ("◌", "at work on an earlier model, or its update waits"),
    "failed": ("✕", "failed, refused, rejected or late"),
}


def rounds_chapter(folder: RunFolder) -> dict[str, Any]:
    """Return the table of the rounds, that of the sites, and who did what in which round."""
    best = str(folder.run.get("best_round"))
    columns = (*_TRAINED, *_validated(folder.task.metrics), *_COUNTED)
    return {
        "round_headings": [heading for heading, _, _ in columns] + ["Best"],
        "rounds": [
            [*_cells(row, columns), "best" if row.get("round") == best else ""]
            for row in folder.history
        ],
        "site_table": site_table(folder.sites, folder.task),
        "no_site_figures": _no_site_figures(folder),
        "grid": _grid(folder.sites),
        "symbols": _symbols(folder.sites),
    }


def site_table(rows: list[Row], task: Task) -> dict[str, Any]:
    """Return caption, headings and lines; columns without a figure go.

    The second cell of a line is the site's name, the last one the remarks.
    """
    columns = (*_AT_SITE, *_validated(task.watched), *_SPEED)
    known = tuple(one for one in columns if any(row.get(one[1]) for row in rows))
    figures = "Training at the sites; validation of the site's own state"
    return {
        "caption": figures if known else "Who took part",
        "headings": ["Round", "Site", "Status", *(heading for heading, _, _ in known), "Remarks"],
        "lines": [
            [row.get("round", ""), row.get("site", ""), _status(row), *_cells(row, known),
             _remarks(row)]
            for row in rows
        ],
    }  # fmt: skip


def _validated(metrics: Sequence[Metric]) -> _Columns:
    """Return the columns of validation figures."""
    return tuple(
        ("Validation loss" if metric.name == LOSS else metric.title, metric.column, 3)
        for metric in metrics
    )


def _no_site_figures(folder: RunFolder) -> str:
    """Return why there are no curves of single sites."""
    if folder.run.get("secure_aggregation") is True:
        return (
            "Secure aggregation hides what a single site would report: its images, batches, "
            "losses, scores and seconds. The coordinator knows who took part, and sums."
        )
    if folder.claims_privacy:
        return "A run with differential privacy sends no losses, counts or scores of a site."
    return "The sites sent no validation figures of their own."


def _grid(rows: list[Row]) -> dict[str, Any]:
    """Return who did what in which round: {rounds, lines: site -> [(symbol, words)]}."""
    rounds = list(dict.fromkeys(row["round"] for row in rows))
    cells = {(row["site"], row["round"]): _symbol(row) for row in rows}
    blank = ("", "no message")
    names = dict.fromkeys(row["site"] for row in rows)
    lines = {name: [cells.get((name, number_), blank) for number_ in rounds] for name in names}
    return {"rounds": rounds, "lines": lines}


def _symbols(rows: list[Row]) -> dict[str, tuple[str, str]]:
    """Return the legend; only in an asynchronous run a site is busy."""
    busy = any(row.get("status") == "busy" for row in rows)
    return {name: sign for name, sign in _SYMBOLS.items() if busy or name != "busy"}


def _symbol(row: Row) -> tuple[str, str]:
    status = row.get("status", "")
    if status == "ok" and flag(row, "stopped_early"):
        return _SYMBOLS["stopped"]
    if status in ("ok", "evaluated", "busy"):
        return _SYMBOLS[status]
    reason = f": {row['reason']}" if row.get("reason") else ""
    return _SYMBOLS["failed"][0], f"{status}{reason}"


def _cells(row: Row, columns: _Columns) -> list[str]:
    return [
        (row.get(key) or DASH) if digits is None else figure(number(row, key), digits)
        for _, key, digits in columns
    ]


def _status(row: Row) -> str:
    status = row.get("status", "")
    return "evaluated only" if status == "evaluated" else status


def _remarks(row: Row) -> str:
    stopped = "stopped early" if flag(row, "stopped_early") else ""
    return "; ".join(text for text in (stopped, row.get("reason", "")) if text)
