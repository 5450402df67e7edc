"""The report's chapter on the test set: tables with intervals where there are some, in words."""

from typing import Any

from primia_flwr.numbers import BRACKETS, count, figure, interval
from primia_flwr.reporting.result_table import HEADINGS, cells
from primia_flwr.runs.evidence import FIGURES, Evidence
from primia_flwr.runs.folder import RunFolder

ALONE = " alone"


def results_chapter(folder: RunFolder) -> dict[str, Any]:
    """Return the tables of models and classes, and what is said of them."""
    federated, evidence = folder.results.get("Federated"), folder.evidence
    return {
        "federated": federated,
        "headline": _headline(folder),
        "headings": HEADINGS,
        "results": [[name, *cells(scores)] for name, scores in folder.results.items()],
        "missing": _missing(folder),
        "class_rows": _class_rows(folder),
        "evidence": evidence,
        "interval_rows": [
            [name, *(interval(figures[key], BRACKETS) for key in FIGURES)]
            for name, figures in (evidence.figures if evidence else {}).items()
        ],
        "interval_note": _interval_note(evidence) if evidence else "",
    }


def _headline(folder: RunFolder) -> str:
    """Return the result in one sentence, or nothing without a test set."""
    federated, pooled = folder.results.get("Federated"), folder.results.get("Pooled")
    if federated is None:
        return ""
    words = []
    alone = {name: s.mcc for name, s in folder.results.items() if name.endswith(ALONE)}
    if alone:
        best = max(alone, key=lambda name: alone[name])
        above = _difference(federated.mcc - alone[best])
        words.append(f"{above} the best hospital alone ({best.removesuffix(ALONE)})")
    if pooled:
        words.append(f"{_difference(federated.mcc - pooled.mcc)} training on all data in one place")
    return f"The federated model's MCC lies {' and '.join(words)}." if words else ""


def _difference(gap: float) -> str:
    if abs(gap) < 0.0005:
        return "level with"
    return f"{abs(gap):.3f} {'above' if gap > 0 else 'below'}"


def _missing(folder: RunFolder) -> str:
    """Return which rows the result table lacks and why, in one sentence."""
    lacking = {} if any(n.endswith(ALONE) for n in folder.results) else {"alone": "each hospital"}
    lacking |= {} if "Pooled" in folder.results else {"pooled": ""}
    if not folder.results or not lacking:
        return ""
    models = " and ".join(f"{who} {word}".strip() for word, who in lacking.items())
    if folder.run.get("deployment") == "deployment":
        return f"Not shown: {models}; in a deployment the data stay apart."
    return f"Not shown: {models}; train with baselines=[{','.join(lacking)}] to compare."


def _class_rows(folder: RunFolder) -> list[list[str]]:
    federated, evidence = folder.results.get("Federated"), folder.evidence
    known = evidence.per_class if evidence else {}
    keys = ("sensitivity", "specificity", "roc_auc")
    rows = []
    for name, scores in federated.per_class.items() if federated else ():
        found = [
            interval(known[name][key], BRACKETS) if name in known else figure(getattr(scores, key))
            for key in keys
        ]
        rows.append([name, count(scores.n), *found])
    return rows


def _interval_note(evidence: Evidence) -> str:
    """Return how the intervals were found, from what they say themselves."""
    figures = [*evidence.figures.values(), *evidence.per_class.values()]
    methods = sorted({found.method for of_one in figures for found in of_one.values()} - {""})
    return (
        f"95 % intervals over {evidence.images} images of {evidence.patients} patients: "
        f"{'; '.join(methods)} ({evidence.resamples} resamples, within classes). They tell how "
        "much the figure depends on which patients were tested; not how much it would differ in "
        "another training or at another hospital."
    )
