"""The report's chapter on the test set: tables with intervals where there are some, in words."""

from typing import Any

from primia_flwr.numbers import BRACKETS, figure, interval
from primia_flwr.reporting.chapters.summed import Summed
from primia_flwr.reporting.result_table import cells, headings
from primia_flwr.runs.folder import RunFolder
from primia_flwr.tasks.judge import Evidence, Judge

_LOCAL = " local"


def results_chapter(folder: RunFolder, summed: Summed | None) -> dict[str, Any]:
    """Return the tables of models, what is said of them, and the chapter of the task.

    `summed`: what the sites' validation counts say, shown where there is no test set.
    """
    scores, evidence, judge = folder.results.get("Federated"), folder.evidence, folder.task.judge
    names = headings(judge)
    return {
        "federated": scores,
        "summed": None if scores else summed,
        "summed_rows": _summed_rows(summed),
        "tiles": _tiles(judge, scores, summed),
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


def _tiles(judge: Judge, scores: Any, summed: Summed | None) -> list[tuple[str, str]]:
    """Return the large figures at the top."""
    if scores:
        return list(zip(headings(judge), cells(judge, scores), strict=True))
    known = summed.figures if summed else {}
    return [(f"Validation {name}", figure(of.value)) for name, of in known.items()]


def _summed_rows(summed: Summed | None) -> list[list[str]]:
    known = summed.figures if summed else {}
    return [[name[:1].upper() + name[1:], interval(of, BRACKETS)] for name, of in known.items()]


def _caption(judge: Judge) -> str:
    rising = all(metric.higher_is_better for metric in judge.tested)
    return f"On the test set{'; higher is better in every column' if rising else ''}"


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
