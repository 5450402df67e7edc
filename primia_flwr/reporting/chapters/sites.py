"""The report's table of every site in every round, and what it cannot show."""

from __future__ import annotations

from typing import Any

from primia_flwr.reporting.result_table import DASH, figure
from primia_flwr.runs.folder import Row, RunFolder, flag, number

# heading, key of sites.csv, digits (None: as it stands)
_FIGURES: tuple[tuple[str, str, int | None], ...] = (
    ("Images", "num_examples", None),
    ("Batches", "num_batches", None),
    ("Epochs", "epochs", None),
    ("Training loss", "train_loss", 3),
    ("Validation loss", "val_loss", 3),
    ("MCC", "val_mcc", 3),
    ("Images/s", "images_per_second", 0),
    ("Seconds", "seconds", 1),
)


def site_table(rows: list[Row]) -> dict[str, Any]:
    """Return caption, headings (text, whether words) and lines; columns without a figure go.

    The second cell of a line is the site's name, the last one the remarks.
    """
    known = [one for one in _FIGURES if any(row.get(one[1]) for row in rows)]
    headings = [("Round", False), ("Site", True), ("Status", True)]
    headings += [(heading, False) for heading, _, _ in known]
    caption = "Training at the sites; validation of the site's own state"
    return {
        "caption": caption if known else "Who took part",
        "headings": [*headings, ("Remarks", True)],
        "lines": [
            [
                row.get("round", ""),
                row.get("site", ""),
                _status(row),
                *(_cell(row, key, digits) for _, key, digits in known),
                _remarks(row),
            ]
            for row in rows
        ],
    }


def no_site_figures(folder: RunFolder) -> str:
    """Return why there are no curves of single sites."""
    if folder.run.get("secure_aggregation") is True:
        return (
            "Secure aggregation hides what a single site would report: its images, batches, "
            "losses, scores and seconds. The coordinator knows who took part, and sums."
        )
    if folder.claims_privacy:
        return "A run with differential privacy sends no losses, counts or scores of a site."
    return "The sites sent no validation figures of their own."


def _status(row: Row) -> str:
    status = row.get("status", "")
    return "evaluated only" if status == "evaluated" else status


def _cell(row: Row, key: str, digits: int | None) -> str:
    if digits is None:
        return row.get(key) or DASH
    return figure(number(row, key), digits)


def _remarks(row: Row) -> str:
    stopped = "stopped early" if flag(row, "stopped_early") else ""
    return "; ".join(text for text in (stopped, row.get("reason", "")) if text)
