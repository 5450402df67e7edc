"""The plots of a comparison as SVG text; lines differ in dash, marks in shape, not in hue alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from primia_flwr.numbers import DASH
from primia_flwr.plotting import (
    COLOURS,
    DOTTED,
    INK,
    MARKERS,
    MUTED,
    Plot,
    drawing,
    legend_below,
    line_style,
    names_on_rows,
    roc_axes,
    shade,
    to_plot,
)
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.calibration import Calibration
from primia_flwr.statistics.intervals import Interval, Strata
from primia_flwr.tasks.classes.readers.compared import Compared
from primia_flwr.tasks.classes.readers.panel import EXPERT, Panel, Reader
from primia_flwr.tasks.classes.scores import roc_curve

_GRID = np.linspace(0, 1, 101)
_BAND_RESAMPLES = 400
_HATCHES = ("////", "....")  # more bands on one panel hide each other
_FIGURES = {"Accuracy": "accuracy", "MCC": "mcc", "ROC-AUC": "roc_auc"}


def draw(found: Compared) -> dict[str, Plot]:
    """Return every plot that the comparison has figures for, by name."""
    drawn = [forest(found), _kappa_matrix(found), roc_curves(found), reliability(found)]
    return {plot.name: plot for plot in drawn if plot}


def forest(found: Compared) -> Plot:
    """Draw accuracy, MCC and ROC-AUC of each reader with its 95 % interval."""
    readers = found.panel.readers
    height = 1.0 + 0.36 * len(readers)
    with drawing(9.4, height, 1, 3, grid="x", sharey=True) as (figure, panels):
        for axes, (title, key) in zip(panels, _FIGURES.items(), strict=True):
            for row, reader in enumerate(reversed(readers)):
                _whisker(axes, row, reader, getattr(found.figures[reader.name], key))
            axes.set_title(title)
        names_on_rows(panels, [reader.name for reader in readers])
    known = {reader.name: found.figures[reader.name].mcc.value for reader in readers}
    words = "; ".join(f"{name} {mcc:.3f}" for name, mcc in known.items() if mcc is not None)
    return to_plot(
        "forest", figure, f"Dots with 95 % intervals: accuracy, MCC, ROC-AUC. MCC: {words}."
    )


def _kappa_matrix(found: Compared) -> Plot | None:
    """Draw Cohen's kappa between each two readers and with the truth; the darker, the higher."""
    names = [*(reader.name for reader in found.panel.readers), "truth"]
    entries = [(p.first, p.second, p.kappa.value) for p in found.pairs]
    entries += [(name, "truth", of.value) for name, of in found.kappa_with_truth.items()]
    known = [(first, second, value) for first, second, value in entries if value is not None]
    values = np.full((len(names), len(names)), np.nan)
    for first, second, value in known:
        i, j = names.index(first), names.index(second)
        values[i, j] = values[j, i] = value
    texts = np.array([["" if math.isnan(v) else f"{v:.2f}" for v in line] for line in values])
    side = min(1.6 + 0.62 * len(names), 8.5)
    with drawing(side + 1.2, side, grid="") as (figure, axes):
        shade(axes, values, texts)
        axes.set(aspect="equal", yticklabels=names)
        axes.set_xticklabels(names, rotation=35, ha="right")
    words = ", ".join(f"{a} and {b} {value:.2f}" for a, b, value in known)
    return to_plot("kappa", figure, f"Matrix of Cohen's kappa: {words}.")


def roc_curves(found: Compared) -> Plot | None:
    """Draw each class against the rest: a curve per model, a mark per person."""
    panel = found.panel
    models = [reader for reader in panel.readers if reader.probabilities is not None]
    known = [k for k in range(len(panel.classes)) if 0 < (panel.labels == k).sum() < len(panel)]
    if not models or not known:
        return None
    across = min(3, len(known))
    down = math.ceil(len(known) / across)
    size = 3.3 * across, 3.4 * down + 0.5
    with drawing(*size, down, across, grid="both", squeeze=False) as (figure, grid):
        for axes in grid.flat[len(known) :]:
            axes.set_visible(False)
        for axes, k in zip(grid.flat, known, strict=False):
            _roc_panel(axes, found, models, k)
        legend_below(figure, grid[0, 0], 4)
    words = "; ".join(
        f"{reader.name}: " + ", ".join(_area_words(found, reader.name)) for reader in models
    )
    return to_plot("roc", figure, f"ROC curves, each class against the rest. Areas: {words}.")


def reliability(found: Compared) -> Plot | None:
    """Draw accuracy against confidence, and below it how many images each bin holds."""
    if not found.calibration:
        return None
    panels = {"sharex": True, "height_ratios": [3.2, 1]}
    with drawing(6.2, 4.9, 2, 1, grid="both", **panels) as (figure, (upper, lower)):
        upper.plot([0, 1], [0, 1], **DOTTED)
        for index, (name, of) in enumerate(found.calibration.items()):
            _reliability_line(upper, of.as_is, name, index)
            middles = [(b.low + b.high) / 2 for b in of.as_is.bins]
            lower.plot(middles, [b.n for b in of.as_is.bins], **line_style(index))
        upper.set(ylabel="share right", xlim=(0, 1.01), ylim=(-0.02, 1.02))
        lower.set(xlabel="confidence (largest probability)", ylabel="images")
        upper.legend(loc="upper left", bbox_to_anchor=(1, 1))
    words = ", ".join(f"{name} {of.as_is.ece:.3f}" for name, of in found.calibration.items())
    return to_plot(
        "reliability", figure, f"Reliability diagram; the diagonal is perfect. ECE: {words}."
    )


def _roc_band(panel: Panel, reader: Reader, k: int, *, seed: int) -> tuple[FloatArray, FloatArray]:
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


def _roc_panel(axes: Any, found: Compared, models: list[Reader], k: int) -> None:
    panel = found.panel
    roc_axes(axes)
    axes.set_title(panel.classes[k])
    for index, reader in enumerate(models):
        assert reader.probabilities is not None
        style = line_style(index, marker=False)
        if index < len(_HATCHES):
            low, high = _roc_band(panel, reader, k, seed=found.settings.seed)
            band = {"edgecolor": style["color"], "hatch": _HATCHES[index], "linewidth": 0}
            axes.fill_between(_GRID, low, high, facecolor="none", alpha=0.35, **band)
        axes.plot(*roc_curve(panel.labels, reader.probabilities, k), label=reader.name, **style)
    for index, reader in enumerate(r for r in panel.readers if r.kind == EXPERT):
        of, name = found.figures[reader.name], panel.classes[k]
        sensitivity, specificity = of.sensitivity[name].value, of.specificity[name].value
        if sensitivity is not None and specificity is not None:
            marker = MARKERS[(index + 1) % len(MARKERS)]
            face = {"color": INK, "markerfacecolor": "white", "markersize": 8, "linestyle": "none"}
            axes.plot(1 - specificity, sensitivity, marker, label=reader.name, **face)


def _whisker(axes: Any, height: float, reader: Reader, of: Interval | None) -> None:
    if of is None or of.value is None:
        axes.annotate(DASH, (0.5, height), xycoords=("axes fraction", "data"), color=MUTED)
        return
    if of.low is not None and of.high is not None:
        axes.plot([of.low, of.high], [height, height], color=INK, linewidth=1.4)
    shapes = {"model": ("o", COLOURS[0]), "baseline": ("D", "white"), "expert": ("s", "white")}
    shape, face = shapes[reader.kind]
    axes.plot(of.value, height, shape, color=COLOURS[0], markerfacecolor=face, markersize=7)


def _reliability_line(axes: Any, of: Calibration, name: str, index: int) -> None:
    points = [(b.confidence, b.accuracy, b.accuracy_low, b.accuracy_high) for b in of.bins if b.n]
    x, y, low, high = (np.array(column, np.float64) for column in zip(*points, strict=True))
    reach, label = np.maximum([y - low, high - y], 0), f"{name}, ECE {of.ece:.3f}"
    axes.errorbar(x, y, reach, elinewidth=0.8, capsize=2, label=label, **line_style(index))


def _area_words(found: Compared, name: str) -> list[str]:
    areas = found.figures[name].roc_auc_per_class
    return [f"{k} {of.value:.3f}" for k, of in areas.items() if of.value is not None]
