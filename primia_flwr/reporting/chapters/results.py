"""The report's chapter on the test set: tables with intervals where there are some, in words."""

from typing import Any

from primia_flwr.numbers import BRACKETS, interval
from primia_flwr.reporting.result_table import cells, headings
from primia_flwr.runs.folder import RunFolder
from primia_flwr.tasks.judge import Evidence, Judge

_LOCAL = " local"


def results_chapter(folder: RunFolder) -> dict[str, Any]:
    """Return the tables of models, what is said of them, and the chapter of the task."""
    scores, evidence, judge = folder.results.get("Federated"), folder.evidence, folder.task.judge
    names = headings(judge)
    return {
        "federated": scores,
        "headline": _headline(folder),
        "tiles": list(zip(names, cells(judge, scores), strict=True)) if scores else [],
        "results_caption": _caption(judge),
        "headings": names,
        "results": [[name, *cells(judge, found)] for name, found in folder.results.items()],
        "missing": _missing(folder),
        "template": judge.template,
        "evidence": evidence,
        "interval_headings": [metric.title for metric in judge.headlined],
        "interval_rows": [
            [name, *(interval(figures[m.name], BRACKETS) for m in judge.headlined)]
            for name, figures in (evidence.figures if evidence else {}).items()
        ],
        "interval_note": _interval_note(evidence) if evidence else "",
        **(judge.chapter(scores, evidence) if scores else {}),
    }


def _caption(judge: Judge) -> str:
    rising = all(metric.higher_is_better for metric in judge.tested)
    return f"On the test set{'; higher is better in every column' if rising else ''}"


def _headline(folder: RunFolder) -> str:
    """Return the result in one sentence, or nothing without a test set."""
    aim, words = folder.task.aim, []
    reached = {name: scores.figures()[aim.name] for name, scores in folder.results.items()}
    known = {name: value for name, value in reached.items() if value is not None}
    if "Federated" not in known:
        return ""
    local = {name: value for name, value in known.items() if name.endswith(_LOCAL)}
    if local:
        best = next(name for name in local if local[name] == aim.best(local.values()))
        above = _difference(known["Federated"] - local[best])
        words.append(f"{above} the best hospital alone ({best.removesuffix(_LOCAL)})")
    if "Centralised" in known:
        gap = known["Federated"] - known["Centralised"]
        words.append(f"{_difference(gap)} training on all data in one place")
    return f"The federated model's {aim.words} lies {' and '.join(words)}." if words else ""


def _difference(gap: float) -> str:
    if abs(gap) < 0.0005:
        return "level with"
    return f"{abs(gap):.3f} {'above' if gap > 0 else 'below'}"


def _missing(folder: RunFolder) -> str:
    """Return which rows the result table lacks and why, in one sentence."""
    lacking = [] if any(n.endswith(_LOCAL) for n in folder.results) else ["local"]
    lacking += [] if "Centralised" in folder.results else ["centralised"]
    if not folder.results or not lacking:
        return ""
    models = f"{' and '.join(lacking)} training"
    if folder.run.get("deployment") == "deployment":
        return f"Not shown: {models}; in a deployment the data stay apart."
    return f"Not shown: {models}; train with baselines=[{','.join(lacking)}] to compare."


def _interval_note(evidence: Evidence) -> str:
    """Return how the intervals were found, from what they say themselves."""
    methods = sorted({found.method for found in evidence.intervals()} - {""})
    return (
        f"95 % intervals over {evidence.images} images of {evidence.patients} patients: "
        f"{'; '.join(methods)} ({evidence.resamples} resamples{evidence.within}). They tell how "
        "much the figure depends on which patients were tested; not how much it would differ in "
        "another training or at another hospital."
    )
