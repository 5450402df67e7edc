"""`sweep.html`: one self-contained page that shows what a search did and found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import optuna
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from primia_flwr.reporting.plots.parallel import parallel_plot, shown
from primia_flwr.search.plots import (
    LEAST_FOR_IMPORTANCE,
    history_plot,
    importance_plot,
    importances,
)
from primia_flwr.storage.atomic import write_atomic


def write_report(folder: Path, study: optuna.Study, found: Mapping[str, Any]) -> Path:
    """Write `sweep.html` into the search's folder and return its path.

    Parameters
    ----------
    folder : Path
        The search's folder.
    study : optuna.Study
        For the importances.
    found : mapping
        The content of sweep.json; the page shows no figure that is not in it or follows from it.
    """
    target = folder / "sweep.html"
    write_atomic(target, render(found, importances(study)))
    return target


def render(found: Mapping[str, Any], shares: Mapping[str, float]) -> str:
    """Return the page as text."""
    trials, space = found["trials"], found["space"]
    complete = [trial for trial in trials if trial["val_mcc"] is not None]
    plots = [history_plot(trials)] if trials else []
    plots += [importance_plot(shares)] if shares else []
    lines = [(t["values"], float(t["val_mcc"])) for t in complete]
    names = list(shares or space)
    plots += [parallel_plot(lines, names, space, of="complete trials")] if len(lines) > 1 else []
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(shown=shown, score=_score)
    template = files("primia_flwr.reporting").joinpath("templates", "sweep.html.jinja")
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        found=found,
        name=Path(found["folder"]).name,
        best=found["best"],
        trials=trials,
        complete=len(complete),
        needed=LEAST_FOR_IMPORTANCE,
        important=bool(shares),
        figures=[Markup(plot.svg) for plot in plots],
        space={name: _words(spec) for name, spec in space.items()},
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _words(spec: Mapping[str, Any]) -> str:
    """Return one dimension of the space in words."""
    if "choices" in spec:
        return " | ".join(json.dumps(value) for value in spec["choices"])
    scale = ", logarithmic" if spec.get("log") else ""
    step = f" in steps of {shown(spec['step'])}" if "step" in spec else ""
    return f"{shown(spec['low'])} to {shown(spec['high'])}{step}{scale}"
