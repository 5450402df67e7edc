"""The report's plots as SVG text: system fonts, few colours, all readable in grey.

Lines differ in lightness and in dash, marks differ in shape, so nothing rests on hue alone.
Every function returns a `Plot`, whose alternative text says in words what the picture shows.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from primia_flwr.evaluation.predictions import Predictions
from primia_flwr.runs.folder import Row, flag, number
from primia_flwr.tasks.classes.scores import Scores, roc_curve

INK, MUTED, FAINT = "#1b2733", "#5c6b7a", "#d9dfe5"
COLOURS = ("#12355b", "#b8621b", "#4f9d8f", "#7a3b69", "#8a8f2a", "#7fa3c7")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": True,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True)
class Plot:
    """One picture: `name` is its file name without ending, `svg` an <svg> element as text."""

    name: str
    svg: str
    alt: str


def global_curves(history: Sequence[Row], best_round: int) -> Plot:
    """Draw loss and validation figures of the global model per round; the best round marked."""
    with plot_style():
        figure, (left, right) = _panels()
        rounds = _column(history, "round")
        lines = (("train_loss", "training"), ("val_loss", "validation"))
        for index, (key, label) in enumerate(lines):
            _line(left, rounds, _column(history, key), label, index)
        named = (("val_mcc", "MCC"), ("val_balanced_accuracy", "balanced accuracy"))
        for index, (key, label) in enumerate((*named, ("val_accuracy", "accuracy"))):
            _line(right, rounds, _column(history, key), label, index)
        _finish(left, "Loss", "round", "cross-entropy")
        _finish(right, "Validation", "round", "")
        for axes in (left, right):
            if best_round > 0:
                axes.axvline(best_round, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        if best_round > 0:
            right.set_title(
                f"dotted: best round, {best_round}",
                loc="right", fontsize=9, fontweight="normal", color=MUTED,
            )  # fmt: skip
        mcc = _column(history, "val_mcc")
        return to_plot(
            "rounds",
            figure,
            f"Two line charts over {len(history)} rounds. Left: training and validation loss of "
            f"the global model. Right: validation MCC, {_from_to(mcc)}, balanced accuracy and "
            "accuracy. "
            + (f"A dotted line marks the best round, {best_round}." if best_round else ""),
        )


def site_curves(sites: Sequence[Row]) -> Plot:
    """Draw each site's validation loss and MCC after local training, with its early stops."""
    names = list(dict.fromkeys(row["site"] for row in sites))
    with plot_style():
        figure, (left, right) = _panels()
        for index, name in enumerate(names):
            rows = [row for row in sites if row["site"] == name]
            for axes, key in ((left, "val_loss"), (right, "val_mcc")):
                rounds, values = _column(rows, "round"), _column(rows, key)
                _line(axes, rounds, values, name, index)
                _marks(axes, rows, rounds, values)
        _finish(left, "Validation loss at the site", "round", "cross-entropy", legend=False)
        _finish(right, "Validation MCC at the site", "round", "", legend=False)
        _marks_legend(figure, left)
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
    counts = np.array(scores.confusion, np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = list(scores.per_class)
    with plot_style({"axes.grid": False}):
        side = min(1.9 + 0.7 * len(names), 7.5)
        figure = Figure(figsize=(side + 0.6, side), layout="constrained")
        axes = figure.subplots()
        shade = mpl.colors.LinearSegmentedColormap.from_list("ink", ["#f5f7f9", COLOURS[0]])
        axes.pcolormesh(shares, cmap=shade, vmin=0, vmax=1, edgecolor="white", linewidth=2)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        for (i, j), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else INK
            text = f"{int(counts[i, j])}\n{100 * share:.0f} %"
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=colour, fontsize=10)
        middles = np.arange(len(names)) + 0.5
        axes.set_xticks(middles, names, rotation=30 if len(names) > 4 else 0)
        axes.set_yticks(middles, names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        words = (
            f"{name}: {100 * shares[k, k]:.0f} % of {int(counts[k].sum())} right"
            for k, name in enumerate(names)
        )
        return to_plot(
            "confusion", figure, "Confusion matrix, true class by row. " + "; ".join(words)
        )


def roc_curves(predictions: Predictions, scores: Scores) -> Plot | None:
    """Draw one curve per class against the rest; None where no class has one."""
    areas = {name: s.roc_auc for name, s in scores.per_class.items() if s.roc_auc is not None}
    found = [(k, name) for k, name in enumerate(predictions.classes) if name in areas]
    if not found:
        return None
    with plot_style({"axes.grid.axis": "both"}):
        figure = Figure(figsize=(4.3, 4.1), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        for index, (k, name) in enumerate(found):
            fpr, tpr = roc_curve(predictions.labels, predictions.probabilities, k)
            label = f"{name}  {areas[name]:.3f}"
            axes.plot(fpr, tpr, label=label, color=_colour(index), linestyle=_dash(index))
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")  # noqa: RUF001
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.legend(loc="lower right", title="class, area", title_fontsize=9, alignment="left")
        words = ", ".join(f"{name} {areas[name]:.3f}" for _, name in found)
        return to_plot("roc", figure, f"ROC curves, each class against the rest. Areas: {words}.")


def comparison(results: dict[str, Scores]) -> Plot:
    """Draw MCC and ROC-AUC of every model as dots on one scale."""
    names = list(results)[::-1]
    with plot_style({"axes.grid.axis": "x"}):
        figure = Figure(figsize=(9.4, 0.9 + 0.32 * len(names)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        keys = (("MCC", "mcc"), ("ROC-AUC", "roc_auc"))
        for axes, (title, key) in zip(panels, keys, strict=True):
            for height, name in enumerate(names):
                value, own = getattr(results[name], key), name in ("Federated", "Pooled")
                if value is None:
                    continue
                face = COLOURS[0] if name == "Federated" else "white"
                edge = COLOURS[0] if own else MUTED
                shape = "o" if name == "Federated" else "D" if own else "s"
                axes.plot(value, height, shape, color=edge, markerfacecolor=face, markersize=7)
                axes.annotate(
                    f"{value:.3f}", (value, height), (9, 0), textcoords="offset points",
                    va="center", fontsize=9, color=INK,
                )  # fmt: skip
            axes.set_title(title)
            axes.margins(x=0.22)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.set_ylim(-0.6, len(names) - 0.4)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        panels[0].set_yticks(range(len(names)), names, color=INK)
        words = ", ".join(f"{name} {scores.mcc:.3f}" for name, scores in results.items())
        return to_plot("comparison", figure, f"Dot chart of MCC and ROC-AUC. MCC: {words}.")


def timings(history: Sequence[Row]) -> Plot:
    """Draw the seconds of each round as bars: training, and everything else."""
    rounds, seconds = _column(history, "round"), _column(history, "seconds")
    outside = np.nan_to_num(_column(history, "seconds_outside_training"))
    training = np.clip(np.nan_to_num(seconds) - outside, 0, None)
    with plot_style():
        figure = Figure(figsize=(9.4, 2.3), layout="constrained")
        axes = figure.subplots()
        light: dict[str, Any] = {"color": "#9fb3c8", "edgecolor": "white", "hatch": "//"}
        axes.bar(rounds, training, width=0.66, label="training at the sites", **light)
        axes.bar(
            rounds, outside, bottom=training, width=0.66, color=COLOURS[0], label="everything else"
        )
        _finish(axes, "Seconds per round", "round", "seconds")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return to_plot(
            "timings",
            figure,
            f"Bar chart of the seconds per round, {np.nansum(seconds):.0f} in all, of which "
            f"{outside.sum():.0f} outside the sites' training.",
        )


def plot_style(changes: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
    """Return the context in which every picture of the page is drawn, with changes to it."""
    settings: Any = {**_STYLE, **(changes or {})}
    return mpl.rc_context(settings)


def _panels() -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(9.4, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


def _line(axes: Axes, x: Any, y: Any, label: str, index: int) -> None:
    if np.isfinite(y).any():
        marker = MARKERS[index % len(MARKERS)]
        style: dict[str, Any] = {"color": _colour(index), "linestyle": _dash(index)}
        known = np.isfinite(y)
        every = max(1, int(known.sum()) // 18)
        axes.plot(x[known], y[known], marker=marker, markevery=every, label=label, **style)


def _marks(axes: Axes, rows: Sequence[Row], rounds: Any, values: Any) -> None:
    stopped = np.array([flag(row, "stopped_early") for row in rows], bool)
    only = np.array([row.get("status") == "evaluated" for row in rows], bool)
    ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "color": INK}
    axes.plot(rounds[stopped], values[stopped], "o", markeredgewidth=1.2, **ring)
    axes.plot(rounds[only], values[only], "x", markersize=10, markeredgewidth=1.6, color=INK)


def _marks_legend(figure: Figure, axes: Axes) -> None:
    """Name sites and marks once, below both panels: they may be many."""
    axes.plot([], [], "o", markersize=9, markerfacecolor="none", color=INK, label="stopped early")
    axes.plot([], [], "x", markersize=8, markeredgewidth=1.6, color=INK, label="evaluated only")
    handles, labels = axes.get_legend_handles_labels()
    figure.set_figheight(figure.get_figheight() + 0.19 * math.ceil(len(labels) / 6))
    figure.legend(handles, labels, loc="outside lower left", ncols=min(6, len(labels)))


def _finish(axes: Axes, title: str, x_label: str, y_label: str, *, legend: bool = True) -> None:
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend()


def to_plot(name: str, figure: Figure, alt: str) -> Plot:
    """Turn a figure into SVG text: the same every time, its ids unlike those of other pictures."""
    buffer = io.StringIO()
    with plot_style({"svg.hashsalt": f"primia-{name}"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)  # several pictures share one page
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*?sans-serif", "system-ui, sans-serif", svg)
    label = html.escape(alt, quote=True)
    return Plot(name, svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1), alt)


def _column(rows: Sequence[Row], key: str) -> Any:
    return np.array([number(row, key) for row in rows], np.float64)


def _from_to(values: Any) -> str:
    known = [v for v in values if math.isfinite(v)]
    return f"from {known[0]:.3f} to {known[-1]:.3f}" if known else "unknown"


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _dash(index: int) -> Any:
    return DASHES[index % len(DASHES)]
