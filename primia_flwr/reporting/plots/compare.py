"""The plots of a comparison as SVG text; lines differ in dash, marks in shape, not in hue alone."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from primia_flwr.reporting.plots import run as plots
from primia_flwr.reporting.plots.run import COLOURS, INK, MARKERS, MUTED, Plot
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.calibration import Calibration
from primia_flwr.statistics.intervals import Interval, Strata
from primia_flwr.tasks.classes.readers.compare import Comparison
from primia_flwr.tasks.classes.scores import roc_curve
from primia_flwr.tasks.panel import EXPERT, Panel, Reader

_GRID = np.linspace(0, 1, 101)
_BAND_RESAMPLES = 400
_BANDS = 2  # more bands on one panel hide each other
_HATCHES = ("////", "....")


def draw(found: Comparison) -> dict[str, Plot]:
    """Return every plot that the comparison has figures for, by name."""
    drawn = [forest(found), kappa_matrix(found), roc_curves(found), reliability(found)]
    return {plot.name: plot for plot in drawn if plot}


def forest(found: Comparison) -> Plot:
    """Draw accuracy, MCC and ROC-AUC of each reader with its 95 % interval."""
    names = [reader.name for reader in found.panel.readers]
    columns: list[tuple[str, list[Interval | None]]] = [
        ("Accuracy", [found.figures[name].accuracy for name in names]),
        ("MCC", [found.figures[name].mcc for name in names]),
        ("ROC-AUC", [found.figures[name].roc_auc for name in names]),
    ]
    with plots.plot_style({"axes.grid.axis": "x"}):
        figure = Figure(figsize=(9.4, 1.0 + 0.36 * len(names)), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        heights = np.arange(len(names))[::-1]
        for axes, (title, values) in zip(panels, columns, strict=True):
            for height, reader, of in zip(heights, found.panel.readers, values, strict=True):
                _whisker(axes, float(height), reader, of)
            axes.set_title(title)
            axes.set_ylim(-0.6, len(names) - 0.4)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        panels[0].set_yticks(heights, names, color=INK)
    words = "; ".join(
        f"{name} {of.value:.3f}"
        for name, of in zip(names, columns[1][1], strict=True)
        if of is not None and of.value is not None
    )
    return plots.to_plot(
        "forest", figure, f"Dots with 95 % intervals: accuracy, MCC, ROC-AUC. MCC: {words}."
    )


def kappa_matrix(found: Comparison) -> Plot | None:
    """Draw Cohen's kappa between each two readers and with the truth; the darker, the higher."""
    names = [*(reader.name for reader in found.panel.readers), "truth"]
    values = np.full((len(names), len(names)), np.nan)
    entries = [(p.first, p.second, p.kappa) for p in found.pairs]
    entries += [(name, "truth", of) for name, of in found.kappa_with_truth.items()]
    for first, second, of in entries:
        if of.value is not None:
            i, j = names.index(first), names.index(second)
            values[i, j] = values[j, i] = of.value
    with plots.plot_style({"axes.grid": False}):
        side = min(1.6 + 0.62 * len(names), 8.5)
        figure = Figure(figsize=(side + 1.2, side), layout="constrained")
        axes = figure.subplots()
        shade = mpl.colors.LinearSegmentedColormap.from_list("ink", ["#f5f7f9", COLOURS[0]])
        axes.pcolormesh(
            np.ma.masked_invalid(values), cmap=shade, vmin=0, vmax=1, edgecolor="white", linewidth=2
        )
        for (i, j), value in np.ndenumerate(values):
            if math.isfinite(value):
                colour = "white" if value > 0.5 else INK
                axes.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", color=colour)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        middles = np.arange(len(names)) + 0.5
        axes.set_xticks(middles, names, rotation=35, ha="right")
        axes.set_yticks(middles, names)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    words = ", ".join(f"{a} and {b} {of.value:.2f}" for a, b, of in entries if of.value is not None)
    return plots.to_plot("kappa", figure, f"Matrix of Cohen's kappa: {words}.")


def roc_curves(found: Comparison) -> Plot | None:
    """Draw each class against the rest: a curve per model, a mark per person."""
    panel = found.panel
    models = [reader for reader in panel.readers if reader.probabilities is not None]
    known = [k for k in range(len(panel.classes)) if 0 < (panel.labels == k).sum() < len(panel)]
    if not models or not known:
        return None
    with plots.plot_style({"axes.grid.axis": "both"}):
        across = min(3, len(known))
        down = math.ceil(len(known) / across)
        figure = Figure(figsize=(3.3 * across, 3.4 * down + 0.5), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False).ravel()
        for axes in grid[len(known) :]:
            axes.set_visible(False)
        for axes, k in zip(grid, known, strict=False):
            _roc_panel(axes, found, models, k)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=min(4, len(labels)))
    words = "; ".join(
        f"{reader.name}: " + ", ".join(_area_words(found, reader.name)) for reader in models
    )
    return plots.to_plot("roc", figure, f"ROC curves, each class against the rest. Areas: {words}.")


def reliability(found: Comparison) -> Plot | None:
    """Draw accuracy against confidence, and below it how many images each bin holds."""
    if not found.calibration:
        return None
    with plots.plot_style({"axes.grid.axis": "both"}):
        figure = Figure(figsize=(6.2, 4.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        for index, (name, of) in enumerate(found.calibration.items()):
            style = _line_style(index)
            _reliability_line(upper, of.as_is, name, index)
            middles = [(b.low + b.high) / 2 for b in of.as_is.bins]
            lower.plot(middles, [b.n for b in of.as_is.bins], **style)
        upper.set(ylabel="share right", xlim=(0, 1.01), ylim=(-0.02, 1.02))
        lower.set(xlabel="confidence (largest probability)", ylabel="images")
        upper.legend(loc="upper left", bbox_to_anchor=(1, 1))
    words = ", ".join(f"{name} {of.as_is.ece:.3f}" for name, of in found.calibration.items())
    return plots.to_plot(
        "reliability", figure, f"Reliability diagram; the diagonal is perfect. ECE: {words}."
    )


def roc_band(panel: Panel, reader: Reader, k: int, *, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the pointwise 95 % band of the true positive rate, patients resampled.

    Both limits are (101,), at false positive rates 0, 0.01 ... 1 (percentile bootstrap, patients
    drawn within their class).
    """
    assert reader.probabilities is not None
    strata = Strata.by_class(panel.patients, panel.labels)
    order = np.argsort(-reader.probabilities[:, k], kind="stable")
    scores = reader.probabilities[order, k]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    positive = (panel.labels == k)[order]
    rng = np.random.default_rng(seed)
    curves = np.empty((_BAND_RESAMPLES, len(_GRID)))
    for row in range(_BAND_RESAMPLES):
        drawn = np.concatenate([rng.choice(group, len(group)) for group in strata.groups])
        weights = np.bincount(drawn, minlength=strata.size)[strata.of][order]
        tp = np.concatenate([[0.0], np.cumsum(weights * positive)[ends]])
        fp = np.concatenate([[0.0], np.cumsum(weights * ~positive)[ends]])
        curves[row] = np.interp(_GRID, fp / max(fp[-1], 1), tp / max(tp[-1], 1))
    low, high = np.percentile(curves, [2.5, 97.5], axis=0)
    return low, high


def _roc_panel(axes: Any, found: Comparison, models: list[Reader], k: int) -> None:
    panel = found.panel
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
    for index, reader in enumerate(models):
        assert reader.probabilities is not None
        fpr, tpr = roc_curve(panel.labels, reader.probabilities, k)
        style = _line_style(index)
        if index < _BANDS:
            low, high = roc_band(panel, reader, k, seed=found.settings.seed)
            axes.fill_between(
                _GRID, low, high, facecolor="none", edgecolor=style["color"], alpha=0.35,
                hatch=_HATCHES[index], linewidth=0,
            )  # fmt: skip
        axes.plot(fpr, tpr, label=reader.name, color=style["color"], linestyle=style["linestyle"])
    for index, reader in enumerate(r for r in panel.readers if r.kind == EXPERT):
        of, name = found.figures[reader.name], panel.classes[k]
        sensitivity, specificity = of.sensitivity[name].value, of.specificity[name].value
        if sensitivity is not None and specificity is not None:
            axes.plot(
                1 - specificity, sensitivity, MARKERS[(index + 1) % len(MARKERS)], color=INK,
                markerfacecolor="white", markersize=8, label=reader.name, linestyle="none",
            )  # fmt: skip
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")  # noqa: RUF001
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_title(panel.classes[k])


def _whisker(axes: Any, height: float, reader: Reader, of: Interval | None) -> None:
    if of is None or of.value is None:
        axes.annotate("–", (0.5, height), xycoords=("axes fraction", "data"), color=MUTED)  # noqa: RUF001
        return
    if of.low is not None and of.high is not None:
        axes.plot([of.low, of.high], [height, height], color=INK, linewidth=1.4)
    shapes = {"model": ("o", COLOURS[0]), "baseline": ("D", "white"), "expert": ("s", "white")}
    shape, face = shapes[reader.kind]
    axes.plot(of.value, height, shape, color=COLOURS[0], markerfacecolor=face, markersize=7)


def _reliability_line(axes: Any, of: Calibration, name: str, index: int) -> None:
    style = _line_style(index)
    points = [(b.confidence, b.accuracy, b.accuracy_low, b.accuracy_high) for b in of.bins if b.n]
    x, y, low, high = (np.array(column, np.float64) for column in zip(*points, strict=True))
    label = f"{name}, ECE {of.ece:.3f}"
    axes.errorbar(
        x, y, np.maximum([y - low, high - y], 0), elinewidth=0.8, capsize=2, label=label, **style
    )


def _line_style(index: int) -> dict[str, Any]:
    return {
        "color": plots._colour(index),
        "linestyle": plots._dash(index),
        "marker": MARKERS[index % len(MARKERS)],
    }


def _area_words(found: Comparison, name: str) -> list[str]:
    areas = found.figures[name].roc_auc_per_class
    return [f"{k} {of.value:.3f}" for k, of in areas.items() if of.value is not None]
