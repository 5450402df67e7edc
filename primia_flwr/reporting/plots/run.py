"""The report's pictures of a run: curves, confusion matrix, ROC, models side by side, time.

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
    roc_axes,
    shade,
    to_plot,
)
from primia_flwr.runs.folder import Row, column, flag
from primia_flwr.tasks.classes.scores import Scores, roc_curve
from primia_flwr.tasks.panel import Predictions

_GLOBAL = (
    ("Loss", "cross-entropy", {"train_loss": "training", "val_loss": "validation"}),
    (
        "Validation",
        "",
        {
            "val_mcc": "MCC",
            "val_balanced_accuracy": "balanced accuracy",
            "val_accuracy": "accuracy",
        },
    ),
)


def global_curves(history: Sequence[Row], best_round: int) -> Plot:
    """Draw loss and validation figures of the global model per round; the best round marked."""
    rounds, mcc = column(history, "round"), column(history, "val_mcc")
    with drawing(WIDE, 3.1, 1, 2) as (figure, panels):
        for axes, (title, y_label, lines) in zip(panels, _GLOBAL, strict=True):
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
        f"the global model. Right: validation MCC, {_from_to(mcc)}, balanced accuracy and "
        f"accuracy.{best}",
    )


def site_curves(sites: Sequence[Row]) -> Plot:
    """Draw each site's validation loss and MCC after local training, with its early stops."""
    names = list(dict.fromkeys(row["site"] for row in sites))
    with drawing(WIDE, 3.1, 1, 2) as (figure, (left, right)):
        for index, name in enumerate(names):
            rows = [row for row in sites if row["site"] == name]
            for axes, key in ((left, "val_loss"), (right, "val_mcc")):
                rounds, values = column(rows, "round"), column(rows, key)
                _line(axes, rounds, values, name, index)
                _marks(axes, rows, rounds, values)
        _over_rounds(left, "Validation loss at the site", "cross-entropy")
        _over_rounds(right, "Validation MCC at the site", "")
        ring: dict[str, Any] = {"markerfacecolor": "none", "color": INK}
        left.plot([], [], "o", markersize=9, label="stopped early", **ring)
        left.plot([], [], "x", markersize=8, markeredgewidth=1.6, label="evaluated only", **ring)
        figure.set_figheight(3.1 + 0.19 * legend_below(figure, left, 6))
    stops = sum(flag(row, "stopped_early") for row in sites)
    only = sum(row.get("status") == "evaluated" for row in sites)
    return to_plot(
        "sites",
        figure,
        f"Two line charts of validation loss and MCC of {len(names)} sites after their local "
        f"training, round by round. Rings mark the {stops} early stops, crosses the {only} "
        "rounds in which a site only evaluated. The figures stand in the table below.",
    )


def confusion_matrix(scores: Scores) -> Plot:
    """Draw counts and row percentages; the darker, the larger the share of the true class."""
    counts = np.array(scores.confusion, np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = list(scores.per_class)
    texts = [
        [f"{count}\n{100 * share:.0f} %" for count, share in zip(*line, strict=True)]
        for line in zip(counts, shares, strict=True)
    ]
    side = min(1.9 + 0.7 * len(names), 7.5)
    with drawing(side + 0.6, side, grid="") as (figure, axes):
        shade(axes, shares, np.array(texts), fontsize=10)
        axes.set(aspect="equal", xlabel="predicted", ylabel="true", yticklabels=names)
        axes.set_xticklabels(names, rotation=30 if len(names) > 4 else 0)
    words = "; ".join(
        f"{name}: {100 * shares[k, k]:.0f} % of {counts[k].sum()} right"
        for k, name in enumerate(names)
    )
    return to_plot("confusion", figure, f"Confusion matrix, true class by row. {words}")


def roc_curves(predictions: Predictions, scores: Scores) -> Plot | None:
    """Draw one curve per class against the rest; None where no class has one."""
    areas = {name: s.roc_auc for name, s in scores.per_class.items() if s.roc_auc is not None}
    found = [(k, name) for k, name in enumerate(predictions.classes) if name in areas]
    if not found:
        return None
    with drawing(4.3, 4.1, grid="both") as (figure, axes):
        roc_axes(axes)
        for index, (k, name) in enumerate(found):
            fpr, tpr = roc_curve(predictions.labels, predictions.probabilities, k)
            label = f"{name}  {areas[name]:.3f}"
            axes.plot(fpr, tpr, label=label, **line_style(index, marker=False))
        axes.legend(loc="lower right", title="class, area", title_fontsize=9, alignment="left")
    words = ", ".join(f"{name} {areas[name]:.3f}" for _, name in found)
    return to_plot("roc", figure, f"ROC curves, each class against the rest. Areas: {words}.")


def comparison(results: dict[str, Scores]) -> Plot:
    """Draw MCC and ROC-AUC of every model as dots on one scale."""
    with drawing(WIDE, 0.9 + 0.32 * len(results), 1, 2, grid="x", sharey=True) as (figure, panels):
        for axes, (title, key) in zip(
            panels, (("MCC", "mcc"), ("ROC-AUC", "roc_auc")), strict=True
        ):
            for height, (name, scores) in enumerate(reversed(results.items())):
                _dot(axes, height, name, getattr(scores, key))
            axes.set_title(title)
            axes.margins(x=0.22)
            axes.xaxis.set_major_locator(MaxNLocator(4))
        names_on_rows(panels, list(results))
    words = ", ".join(f"{name} {scores.mcc:.3f}" for name, scores in results.items())
    return to_plot("comparison", figure, f"Dot chart of MCC and ROC-AUC. MCC: {words}.")


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
    edge = COLOURS[0] if name in ("Federated", "Pooled") else MUTED
    shape = {"Federated": "o", "Pooled": "D"}.get(name, "s")
    axes.plot(value, height, shape, color=edge, markerfacecolor=face, markersize=7)
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    axes.annotate(f"{value:.3f}", (value, height), (9, 0), fontsize=9, color=INK, **place)


def _over_rounds(axes: Axes, title: str, y_label: str) -> None:
    axes.set(title=title, xlabel="round", ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _from_to(values: Any) -> str:
    known = [v for v in values if math.isfinite(v)]
    return f"from {known[0]:.3f} to {known[-1]:.3f}" if known else "unknown"
