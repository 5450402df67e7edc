"""Pictures of what stands behind the figures: intervals, reliability, the cross-site matrix."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from primia_flwr.numbers import BRACKETS, figure, interval
from primia_flwr.plotting import (
    COLOURS,
    INK,
    MUTED,
    WIDE,
    Plot,
    drawing,
    names_on_rows,
    on_shade,
    shade,
    to_plot,
)
from primia_flwr.runs.cross_site import CrossSite
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.statistics.intervals import Interval
from primia_flwr.tasks.judge import Evidence
from primia_flwr.tasks.task import Metric


def _draw_interval(axes: Axes, row: int, found: Interval, *, own: bool) -> None:
    colour, face = (COLOURS[0], COLOURS[0]) if own else (MUTED, "white")
    if found.low is not None and found.high is not None:
        width = 2.4 if own else 1.4
        ends = [found.low, found.high], [row, row]
        axes.plot(*ends, "-|", color=colour, linewidth=width, markersize=8)
    if found.value is not None:
        mark: dict[str, Any] = {"color": colour, "markerfacecolor": face, "markersize": 7}
        axes.plot(found.value, row, "o" if own else "s", **mark)


def intervals(evidence: Evidence, metrics: Sequence[Metric], aim: Metric) -> Plot:
    """Draw every model's figures with their intervals on one scale a figure."""
    names = list(evidence.figures)
    height, across = 1.0 + 0.34 * len(names), {"sharey": True, "squeeze": False}
    with drawing(WIDE, height, 1, len(metrics), grid="x", **across) as (drawn, (panels,)):
        for axes, metric in zip(panels, metrics, strict=True):
            for row, name in enumerate(reversed(names)):
                found = evidence.figures[name][metric.name]
                _draw_interval(axes, row, found, own=name == "Federated")
            axes.set_title(metric.title)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.08)
        names_on_rows(panels, names)
    chief = aim if aim in metrics else metrics[0]
    shown = {name: of[chief.name] for name, of in evidence.figures.items()}
    words = "; ".join(f"{name} {interval(one, BRACKETS)}" for name, one in shown.items())
    return to_plot("intervals", drawn, f"95 % intervals of every model. {chief.title}: {words}.")


def cross_site(matrix: CrossSite, aim: Metric) -> Plot:
    """Draw the objective of each model at each site; the better, the darker; own ones outlined."""
    rows, sites = matrix.rows, matrix.sites
    found = [{site: cell.figure(aim.name) for site, cell in row.cells.items()} for row in rows]
    values = np.array([[of.get(site, np.nan) for site in sites] for of in found], np.float64)
    shares = _shares(values, aim)
    texts = np.array([[figure(value) for value in line] for line in values])
    size = min(WIDE, 2.4 + 1.15 * len(sites)), 1.2 + 0.55 * len(rows)
    with drawing(*size, grid="") as (drawn, axes):
        shade(axes, shares, texts)
        for i, j in (
            (i, j) for i, row in enumerate(rows) for j, s in enumerate(sites) if row.model == s
        ):
            axes.texts[i * len(sites) + j].set_fontweight("bold")
            axes.add_patch(Rectangle((j + 0.05, i + 0.07), 0.9, 0.86, fill=False, linewidth=1.6,
                                     edgecolor=on_shade(shares[i, j])))  # fmt: skip
        images = {s: cell.found.num_examples for row in rows for s, cell in row.cells.items()}
        axes.set_xticklabels([f"{site}\nn = {images.get(site, 0)}" for site in sites])
        axes.set_yticklabels([row.model for row in rows], color=INK)
        axes.set(xlabel="validation images of", ylabel="model of")
    words = "; ".join(
        f"{row.model}: " + ", ".join(f"{site} {value:.3f}" for site, value in of.items())
        for row, of in zip(rows, found, strict=True)
    )
    return to_plot("cross-site", drawn, f"Heat map of the {aim.words}, model by row. {words}.")


def _shares(values: FloatArray, aim: Metric) -> FloatArray:
    """Return how dark each value is drawn, from 0 to 1: the better, the darker."""
    highest = aim.highest if math.isfinite(aim.highest) else max(np.nanmax(values, initial=0), 1e-9)
    shares = values / highest
    return shares if aim.higher_is_better else 1 - shares
