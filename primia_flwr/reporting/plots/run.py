"""The report's pictures of a run: curves, models side by side, time.

Every function returns a `Plot`, whose alternative text says in words what the picture shows.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from primia_flwr.plotting import (
    COLOURS,
    DOTTED,
    HATCHED,
    INK,
    MUTED,
    WIDE,
    Plot,
    drawing,
    legend_below,
    line_style,
    names_on_rows,
    to_plot,
)
from primia_flwr.runs.folder import Row, column, flag
from primia_flwr.tasks.judge import ModelScores
from primia_flwr.tasks.task import Metric, Task


def global_curves(history: Sequence[Row], task: Task, best_round: int) -> Plot:
    """Draw loss and validation figures of the global model per round; the best round marked."""
    rounds, scored = column(history, "round"), task.scored[::-1]
    losses = {"train_loss": "training", "val_loss": "validation"}
    shown = (
        ("Loss", task.loss_words, losses),
        ("Validation", "", {metric.column: metric.words for metric in scored}),
    )
    with drawing(WIDE, 3.1, 1, 2) as (figure, panels):
        for axes, (title, y_label, lines) in zip(panels, shown, strict=True):
            for index, (key, label) in enumerate(lines.items()):
                _line(axes, rounds, column(history, key), label, index)
            _over_rounds(axes, title, y_label)
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
            if best_round > 0:
                axes.axvline(best_round, zorder=0, **DOTTED)
        if best_round > 0:
            font: dict[str, Any] = {"fontsize": 9, "fontweight": "normal", "color": MUTED}
            panels[1].set_title(f"dotted: best round, {best_round}", loc="right", **font)
    best = f" A dotted line marks the best round, {best_round}." if best_round else ""
    return to_plot(
        "rounds",
        figure,
        f"Two line charts over {len(history)} rounds. Left: training and validation loss of "
        f"the global model. Right: validation {_in_words(history, scored)}.{best}",
    )


def site_curves(sites: Sequence[Row], aim: Metric, y_label: str) -> Plot:
    """Draw each site's validation loss and objective after local training, and its early stops."""
    names = list(dict.fromkeys(row["site"] for row in sites))
    with drawing(WIDE, 3.1, 1, 2) as (figure, (left, right)):
        for index, name in enumerate(names):
            rows = [row for row in sites if row["site"] == name]
            for axes, key in ((left, "val_loss"), (right, aim.column)):
                rounds, values = column(rows, "round"), column(rows, key)
                _line(axes, rounds, values, name, index)
                _marks(axes, rows, rounds, values)
        _over_rounds(left, "Validation loss at the site", y_label)
        _over_rounds(right, f"Validation {aim.words} at the site", "")
        ring: dict[str, Any] = {"markerfacecolor": "none", "color": INK}
        left.plot([], [], "o", markersize=9, label="stopped early", **ring)
        left.plot([], [], "x", markersize=8, markeredgewidth=1.6, label="evaluated only", **ring)
        figure.set_figheight(3.1 + 0.19 * legend_below(figure, left, 6))
    stops = sum(flag(row, "stopped_early") for row in sites)
    only = sum(row.get("status") == "evaluated" for row in sites)
    return to_plot(
        "sites",
        figure,
        f"Two line charts of validation loss and {aim.words} of {len(names)} sites after their "
        f"local training, round by round. Rings mark the {stops} early stops, crosses the {only} "
        "rounds in which a site only evaluated. The figures stand in the table below.",
    )


def comparison(results: dict[str, ModelScores], metrics: Sequence[Metric], aim: Metric) -> Plot:
    """Draw some metrics of every model as dots on one scale each."""
    height, across = 0.9 + 0.32 * len(results), {"sharey": True, "squeeze": False}
    with drawing(WIDE, height, 1, len(metrics), grid="x", **across) as (figure, (panels,)):
        for axes, metric in zip(panels, metrics, strict=True):
            for row, (name, scores) in enumerate(reversed(results.items())):
                _dot(axes, row, name, scores.figures()[metric.name])
            axes.set_title(metric.title)
            axes.margins(x=0.22)
            axes.xaxis.set_major_locator(MaxNLocator(4))
        names_on_rows(panels, list(results))
    reached = {name: scores.figures()[aim.name] for name, scores in results.items()}
    words = ", ".join(f"{name} {value:.3f}" for name, value in reached.items() if value is not None)
    of = ", ".join(metric.words for metric in metrics)
    return to_plot("comparison", figure, f"Dot chart of {of}. {aim.title}: {words}.")


def timings(history: Sequence[Row]) -> Plot:
    """Draw the seconds of each round as bars: training, and everything else."""
    rounds, seconds = column(history, "round"), np.nan_to_num(column(history, "seconds"))
    outside = np.nan_to_num(column(history, "seconds_outside_training"))
    training = np.clip(seconds - outside, 0, None)
    other: dict[str, Any] = {"color": COLOURS[0], "label": "everything else"}
    with drawing(WIDE, 2.3) as (figure, axes):
        axes.bar(rounds, training, width=0.66, label="training at the sites", **HATCHED)
        axes.bar(rounds, outside, bottom=training, width=0.66, **other)
        _over_rounds(axes, "Seconds per round", "seconds")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return to_plot(
        "timings",
        figure,
        f"Bar chart of the seconds per round, {seconds.sum():.0f} in all, of which "
        f"{outside.sum():.0f} outside the sites' training.",
    )


def _line(axes: Axes, x: Any, y: Any, label: str, index: int) -> None:
    known = np.isfinite(y)
    if known.any():
        every = max(1, int(known.sum()) // 18)
        axes.plot(x[known], y[known], markevery=every, label=label, **line_style(index))


def _marks(axes: Axes, rows: Sequence[Row], rounds: Any, values: Any) -> None:
    stopped = np.array([flag(row, "stopped_early") for row in rows], bool)
    only = np.array([row.get("status") == "evaluated" for row in rows], bool)
    ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "color": INK}
    axes.plot(rounds[stopped], values[stopped], "o", markeredgewidth=1.2, **ring)
    axes.plot(rounds[only], values[only], "x", markersize=10, markeredgewidth=1.6, color=INK)


def _dot(axes: Axes, height: int, name: str, value: float | None) -> None:
    if value is None:
        return
    face = COLOURS[0] if name == "Federated" else "white"
    edge = COLOURS[0] if name in ("Federated", "Centralised") else MUTED
    shape = {"Federated": "o", "Centralised": "D"}.get(name, "s")
    axes.plot(value, height, shape, color=edge, markerfacecolor=face, markersize=7)
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    axes.annotate(f"{value:.3f}", (value, height), (9, 0), fontsize=9, color=INK, **place)


def _over_rounds(axes: Axes, title: str, y_label: str) -> None:
    axes.set(title=title, xlabel="round", ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _in_words(history: Sequence[Row], metrics: Sequence[Metric]) -> str:
    """Return the metrics in words, the first one with its first and last value."""
    first, *others = metrics
    words = [f"{first.words}, {_from_to(column(history, first.column))}"]
    words += [metric.words for metric in others]
    return " and ".join(([", ".join(words[:-1])] if words[:-1] else []) + words[-1:])


def _from_to(values: Any) -> str:
    known = [v for v in values if math.isfinite(v)]
    return f"from {known[0]:.3f} to {known[-1]:.3f}" if known else "unknown"
