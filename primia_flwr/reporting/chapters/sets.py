"""The report's part on sets of classes: how often they held the true one on the test set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primia_flwr.errors import DataError
from primia_flwr.numbers import DASH, count, figure
from primia_flwr.runs.folder import read_object
from primia_flwr.storage.reading import reading

_HEADINGS = ("Images", "Patients", "Coverage", "Mean size", "One class", "None")


def _words(found: Mapping[str, Any]) -> str:
    return (
        f"Asked: {float(found['asked']):.0%} of patients, whose sets are to hold the true "
        f"class; found: {figure(float(found['coverage']))} "
        f"[{figure(float(found['low']))}, {figure(float(found['high']))}]. The threshold "
        f"comes from {count(int(found['calibration_patients']))} validation patients of all "
        f"sites, one image of each. {found['note']}"
    )


def sets_chapter(run_dir: Path) -> dict[str, Any]:
    """Return the table of sets in metrics.json, and what is said of it; nothing without any.

    Raises
    ------
    DataError
        If the entry is not as `primia train` writes it.
    """
    found = read_object(run_dir / "metrics.json").get("sets")
    if not found:
        return {"set_rows": []}
    expected = "the file as the run wrote it; score the model with primia evaluate"
    with reading("metrics.json: sets", error=DataError, expected=expected):
        rows = [["All", *_cells(found)]]
        rows += [[name, *_cells(of)] for name, of in found["per_class"].items()]
        words = _words(found)
    return {"set_rows": rows, "set_headings": ["Class", *_HEADINGS], "set_words": words.strip()}


def _cells(of: Mapping[str, Any] | None) -> list[str]:
    if of is None:
        return [count(0), *[DASH] * (len(_HEADINGS) - 1)]
    whole = [count(int(of[key])) for key in ("images", "patients")]
    return whole + [figure(float(of[key])) for key in ("coverage", "mean_size", "single", "empty")]
