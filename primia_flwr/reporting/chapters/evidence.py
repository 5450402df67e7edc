"""The report's chapters on single cases and single sites; one without figures says why."""

from typing import Any

from primia_flwr.runs.folder import RunFolder

_NO_MATRIX = {
    "secure": (
        "Not shown: secure aggregation hides each site's own model and its own counts, which this "
        "matrix needs. The coordinator knows the sum of the sites' counts only."
    ),
    "private": (
        "Not shown: in a run with differential privacy no validation counts leave a site, because "
        "each would cost privacy of its own."
    ),
    "plain": "Not asked for; train with debug.cross_site=true to see it.",
}
_NO_CASES = {
    "deployment": (
        "Not shown: the images lie at the sites, and the coordinator has none. Where images are at "
        "hand, primia evaluate run=… data.root=… saliency=2 writes this chapter."
    ),
    "unexplained": (
        "No map is drawn: it shows what spoke for the class that a model called, and this task "
        "calls none of a whole image."
    ),
    "untested": "Not shown: the run has no test set.",
    "off": (
        "Not asked for; primia evaluate run=… saliency=2 writes it, and so does training with "
        "report.saliency=2."
    ),
}


def cases_chapter(folder: RunFolder) -> dict[str, Any]:
    """Return the explained cases with a heading for each picture, or why there are none."""
    found = folder.explanation
    why = "deployment" if folder.run.get("deployment") == "deployment" else "untested"
    why = "off" if folder.results else why
    why = why if folder.task.explained else "unexplained"
    return {
        "explanation": found,
        "case_labels": list(dict.fromkeys(case.label for case in found.cases)) if found else [],
        "no_cases": _NO_CASES[why],
    }


def matrix_chapter(folder: RunFolder) -> dict[str, Any]:
    """Return what stands beside the matrix: models by round, what is missing; or why it does."""
    rows = folder.matrix.rows if folder.matrix else ()
    sites = folder.matrix.sites if folder.matrix else ()
    why = "private" if folder.claims_privacy else "plain"
    return {
        "matrix_rounds": {row.model: row.round for row in rows},
        "empty_cells": [
            f"{row.model} at {site}" for row in rows for site in sites if site not in row.cells
        ],
        "no_matrix": _NO_MATRIX["secure" if folder.run.get("secure_aggregation") is True else why],
    }
