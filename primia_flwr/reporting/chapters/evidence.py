"""The report's chapters on evidence: what the page says of intervals, cases and single sites.

Each function returns plain values for the template; a chapter without figures says why it has none.
"""

from __future__ import annotations

from typing import Any

from primia_flwr.evaluation.explain.cases import Explanation
from primia_flwr.reporting.plots import evidence as evidence_plots
from primia_flwr.reporting.plots.evidence import in_words
from primia_flwr.reporting.plots.run import Plot
from primia_flwr.reporting.plots.saliency import saliency_plots
from primia_flwr.runs.evidence import FIGURES, Evidence
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
    "untested": "Not shown: the run has no test set.",
    "off": (
        "Not asked for; primia evaluate run=… saliency=2 writes it, and so does training with "
        "report.saliency=2."
    ),
}


def evidence_drawings(folder: RunFolder) -> list[Plot]:
    """Return the pictures of the chapters that the folder has the files for."""
    drawn = []
    if folder.evidence:
        drawn += [evidence_plots.intervals(folder.evidence)]
        drawn += [evidence_plots.reliability(folder.evidence)]
    if folder.matrix and folder.matrix.sites:
        drawn.append(evidence_plots.cross_site(folder.matrix))
    return drawn + (saliency_plots(folder.explanation) if folder.explanation else [])


def interval_cells(evidence: Evidence | None) -> dict[str, list[str]]:
    """Return the cells of the table of intervals by model, in the order of `FIGURES`."""
    if evidence is None:
        return {}
    return {
        name: [in_words(figures[key]) for key in FIGURES]
        for name, figures in evidence.figures.items()
    }


def class_cells(evidence: Evidence | None) -> dict[str, list[str]]:
    """Return sensitivity, specificity and ROC-AUC of the federated model by class, in words."""
    if evidence is None:
        return {}
    keys = ("sensitivity", "specificity", "roc_auc")
    return {
        name: [in_words(figures[key]) for key in keys]
        for name, figures in evidence.per_class.items()
    }


def interval_note(evidence: Evidence | None) -> str:
    """Return how the intervals were found, from what they say themselves."""
    if evidence is None:
        return ""
    found = [i for of_one in evidence.figures.values() for i in of_one.values()]
    found += [i for of_one in evidence.per_class.values() for i in of_one.values()]
    methods = sorted({interval.method for interval in found if interval.method})
    return (
        f"95 % intervals over {evidence.images} images of {evidence.patients} patients: "
        f"{'; '.join(methods)} ({evidence.resamples} resamples, within classes). They tell how "
        "much the figure depends on which patients were tested; not how much it would differ in "
        "another training or at another hospital."
    )


def no_matrix(folder: RunFolder) -> str:
    """Return why there is no cross-site matrix; empty where there is one."""
    if folder.matrix:
        return ""
    if folder.run.get("secure_aggregation") is True:
        return _NO_MATRIX["secure"]
    return _NO_MATRIX["private" if folder.claims_privacy else "plain"]


def no_cases(folder: RunFolder) -> str:
    """Return why no case is shown; empty where some are."""
    if folder.explanation:
        return ""
    if folder.results:
        return _NO_CASES["off"]
    return _NO_CASES["deployment" if folder.run.get("deployment") == "deployment" else "untested"]


def case_labels(explanation: Explanation | None) -> list[str]:
    """Return the heading of each picture of cases."""
    labels = dict.fromkeys(case.label for case in explanation.cases) if explanation else {}
    return [f"True class: {label}" for label in labels]


def matrix_facts(folder: RunFolder) -> dict[str, Any]:
    """Return what the text beside the matrix says: models by round, and what is missing."""
    if not folder.matrix:
        return {}
    rounds = {row.model: row.round for row in folder.matrix.rows}
    empty = [
        f"{row.model} at {site}"
        for row in folder.matrix.rows
        for site in folder.matrix.sites
        if site not in row.cells
    ]
    return {"rounds": rounds, "empty": empty}
