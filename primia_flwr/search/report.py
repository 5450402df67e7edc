"""`sweep.html`: one self-contained page that shows what a search did and found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from primia_flwr.numbers import figure, shown
from primia_flwr.reporting import page
from primia_flwr.reporting.plots.parallel import parallel_plot
from primia_flwr.search.plots import (
    LEAST_FOR_IMPORTANCE,
    history_plot,
    importance_plot,
    importances,
)
from primia_flwr.storage.atomic import write_atomic
from primia_flwr.tasks.task import Metric


def write_report(
    folder: Path, study: optuna.Study, found: Mapping[str, Any], metric: Metric
) -> Path:
    """Write `sweep.html` into the search's folder and return its path.

    Parameters
    ----------
    folder : Path
        The search's folder.
    study : optuna.Study
        For the importances.
    found : mapping
        The content of sweep.json; the page shows no figure that is not in it or follows from it.
    metric : Metric
        The objective.
    """
    target = folder / "sweep.html"
    write_atomic(target, _render(found, importances(study), metric))
    return target


def _render(found: Mapping[str, Any], shares: Mapping[str, float], metric: Metric) -> str:
    """Return the page as text."""
    trials, space, best = found["trials"], found["space"], found["best"]
    complete = [trial for trial in trials if trial[metric.column] is not None]
    plots = [history_plot(trials, metric)] if trials else []
    plots += [importance_plot(shares, metric)] if shares else []
    lines = [(t["values"], float(t[metric.column])) for t in complete]
    names = list(shares or space)
    if len(lines) > 1:
        plots.append(parallel_plot(lines, names, space, metric, of="complete trials"))
    return page.render(
        "sweep.html",
        found=found,
        metric=metric,
        name=Path(found["folder"]).name,
        best=best,
        best_rows=[
            [name, shown(value), _words(space[name])]
            for name, value in (best["values"] if best else {}).items()
        ],
        trials=trials,
        rows=[_row(trial, metric) for trial in trials],
        complete=len(complete),
        needed=LEAST_FOR_IMPORTANCE,
        important=bool(shares),
        plots=plots,
    )


def _row(trial: Mapping[str, Any], metric: Metric) -> list[str]:
    reason = f": {trial['reason']}" if trial["reason"] else ""
    return [
        str(trial["trial"]),
        figure(trial[metric.column]),
        str(trial["rounds"]),
        figure(trial["seconds"], 0),
        f"{trial['outcome']}{' (default)' if trial['default'] else ''}{reason}",
        ", ".join(f"{key}={shown(value)}" for key, value in trial["values"].items()),
    ]


def _words(spec: Mapping[str, Any]) -> str:
    """Return one dimension of the space in words."""
    if "choices" in spec:
        return " | ".join(json.dumps(value) for value in spec["choices"])
    scale = ", logarithmic" if spec.get("log") else ""
    step = f" in steps of {shown(spec['step'])}" if "step" in spec else ""
    return f"{shown(spec['low'])} to {shown(spec['high'])}{step}{scale}"
