"""Parallel coordinates: which values went together in the good and the bad trials of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from primia_flwr.numbers import shown
from primia_flwr.plotting import INK, MUTED, WIDE, Plot, dark, drawing, to_plot
from primia_flwr.tasks.task import Metric

_MOST_AXES = 8

_Line = tuple[Mapping[str, Any], float]
"""The values of one trial, by key, and its score."""


def parallel_plot(
    lines: Sequence[_Line],
    names: Sequence[str],
    space: Mapping[str, Any],
    metric: Metric,
    *,
    of: str,
) -> Plot:
    """Draw each line over the axes of the keys and of the score; the darker, the better.

    Parameters
    ----------
    lines : sequence of (values by key, score)
        At least one.
    names : sequence of str
        The keys, of which the first eight get an axis.
    space : mapping
        Of each key either `low`, `high` and perhaps `log`, or `choices`.
    metric : Metric
        What the score is.
    of : str
        What a line is, in the plural, for the alternative text.
    """
    lines = sorted(lines, key=lambda line: metric.rising(line[1]))
    names = list(names)[:_MOST_AXES]
    with drawing(WIDE, 3.9, grid="") as (figure, axes):
        _trials(axes, lines, names, space)
        for position, name in enumerate(names):
            _axis(axes, position, [(_height(space[name], v), v) for v in _ends(space[name])])
        _axis(axes, len(names), [(0.0, lines[0][1]), (1.0, lines[-1][1])])
        labels = [name.replace(".", ".\n") for name in names]
        axes.set_xticks(range(len(names) + 1), [*labels, f"validation\n{metric.words}"], fontsize=8)
        axes.set(title="Which values went together", ylim=(-0.12, 1.12))
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return to_plot(
        "parallel",
        figure,
        f"Parallel coordinates of {len(lines)} {of} over {', '.join(names)} and the validation "
        f"{metric.words}. Each is one line, the darker, the better; the best is thick. The values "
        "stand in the table below.",
    )


def _trials(
    axes: Axes, lines: Sequence[_Line], names: Sequence[str], space: Mapping[str, Any]
) -> None:
    """Draw each of the lines, which are in the order of their scores."""
    worst, best = lines[0][1], lines[-1][1]
    for line in lines:
        share = abs(line[1] - worst) / max(abs(best - worst), 1e-9)
        heights = [_height(space[name], line[0][name]) for name in names]
        width = 2.6 if line is lines[-1] else 1.1
        style = {"color": dark("#c9d3dc")(share), "linewidth": width, "zorder": 2 + share}
        axes.plot(range(len(names) + 1), [*heights, share], **style)


def _axis(axes: Axes, position: int, ticks: Sequence[tuple[float, Any]]) -> None:
    axes.axvline(position, ymin=0.1, ymax=0.9, color=MUTED, linewidth=0.8, zorder=1)
    for height, value in ticks:
        above = height > 0.5
        axes.annotate(
            shown(value), (position, height), (0, 4 if above else -4), fontsize=8, color=INK,
            textcoords="offset points", ha="center", va="bottom" if above else "top",
        )  # fmt: skip


def _ends(spec: Mapping[str, Any]) -> list[Any]:
    """Return the values to write at an axis: both ends, or all choices of a few."""
    if "choices" in spec:
        return list(spec["choices"])
    return [spec["low"], spec["high"]]


def _height(spec: Mapping[str, Any], value: Any) -> float:
    """Return where a value lies between the ends of its axis, from 0 to 1."""
    if "choices" in spec:
        choices = list(spec["choices"])
        return choices.index(value) / max(len(choices) - 1, 1)
    low, high = spec["low"], spec["high"]
    if spec.get("log"):
        return float(np.log(value / low) / np.log(high / low))
    return float((value - low) / (high - low))
