"""Pictures of what stands behind the figures: intervals, reliability, the cross-site matrix."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from primia_flwr.reporting.plots.run import COLOURS, INK, MUTED, Plot, plot_style, to_plot
from primia_flwr.runs.cross_site import CrossSite
from primia_flwr.runs.evidence import FIGURES, Evidence
from primia_flwr.statistics.intervals import Interval

TITLES = {"accuracy": "Accuracy", "mcc": "MCC", "roc_auc": "ROC-AUC"}


def intervals(evidence: Evidence) -> Plot:
    """Draw every model's figures with their intervals on one scale a figure."""
    names = list(evidence.figures)[::-1]
    with plot_style({"axes.grid.axis": "x"}):
        figure = Figure(figsize=(9.4, 1.0 + 0.34 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(FIGURES), sharey=True)
        for axes, key in zip(panels, FIGURES, strict=True):
            for height, name in enumerate(names):
                own, found = name == "Federated", evidence.figures[name][key]
                if found.value is None:
                    continue
                colour = COLOURS[0] if own else MUTED
                if found.low is not None and found.high is not None:
                    axes.plot([found.low, found.high], [height, height], "-|", color=colour,
                              linewidth=2.4 if own else 1.4, markersize=8)  # fmt: skip
                axes.plot(found.value, height, "o" if own else "s", color=colour,
                          markerfacecolor=colour if own else "white", markersize=7)  # fmt: skip
            axes.set_title(TITLES[key])
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.08)
            axes.set_ylim(-0.6, len(names) - 0.4)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
        panels[0].set_yticks(range(len(names)), names, color=INK)
        words = "; ".join(f"{n} {in_words(evidence.figures[n]['mcc'])}" for n in names[::-1])
        return to_plot("intervals", figure, f"95 % intervals of every model. MCC: {words}.")


def reliability(evidence: Evidence) -> Plot:
    """Draw accuracy over confidence, with intervals, above the number of images in each bin."""
    bins = [b for b in evidence.reliability.bins if b.accuracy is not None]
    with plot_style({"axes.grid.axis": "both"}):
        figure = Figure(figsize=(4.6, 4.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        x = np.array([b.confidence for b in bins], np.float64)
        y = np.array([b.accuracy for b in bins], np.float64)
        limits = np.array([(b.accuracy_low, b.accuracy_high) for b in bins], np.float64).T
        upper.errorbar(
            x, y, yerr=np.clip([y - limits[0], limits[1] - y], 0, None), color=COLOURS[0],
            marker="o", capsize=3, elinewidth=1.2,
        )  # fmt: skip
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share predicted right")
        lower.bar(
            [b.low for b in evidence.reliability.bins],
            [b.n for b in evidence.reliability.bins],
            width=[b.high - b.low for b in evidence.reliability.bins],
            align="edge", color="#9fb3c8", edgecolor="white", hatch="//",
        )  # fmt: skip
        lower.set(xlabel="probability of the predicted class", ylabel="images")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        words = "; ".join(
            f"{b.n} images at {b.confidence:.2f}: {b.accuracy:.2f} right"
            for b in bins
            if b.accuracy is not None and b.confidence is not None
        )
        return to_plot("reliability", figure, f"Reliability diagram. {words}.")


def cross_site(matrix: CrossSite) -> Plot:
    """Draw the MCC of each model at each site; the darker, the higher; own images outlined."""
    rows, sites = matrix.rows, matrix.sites
    values = np.full((len(rows), len(sites)), np.nan)
    with plot_style({"axes.grid": False}):
        figure = Figure(
            figsize=(min(9.4, 2.4 + 1.15 * len(sites)), 1.2 + 0.55 * len(rows)),
            layout="constrained",
        )
        axes = figure.subplots()
        for i, row in enumerate(rows):
            for j, site in enumerate(sites):
                values[i, j] = row.cells[site].mcc if site in row.cells else np.nan
        shade = mpl.colors.LinearSegmentedColormap.from_list("ink", ["#f5f7f9", COLOURS[0]])
        axes.pcolormesh(values, cmap=shade, vmin=0, vmax=1, edgecolor="white", linewidth=2)
        axes.invert_yaxis()
        for (i, j), value in np.ndenumerate(values):
            own = rows[i].model == sites[j]
            text = (
                f"{value:.3f}".replace("-", "\N{MINUS SIGN}")
                if np.isfinite(value)
                else "\N{EN DASH}"
            )
            colour = "white" if value > 0.5 else INK
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=colour,
                      fontweight="bold" if own else "normal")  # fmt: skip
            if own:
                box = mpl.patches.Rectangle(
                    (j + 0.05, i + 0.07), 0.9, 0.86, fill=False, edgecolor=colour, linewidth=1.6
                )
                axes.add_patch(box)
        counts = {s: row.cells[s].n for row in rows for s in sites if s in row.cells}
        axes.set_xticks(
            np.arange(len(sites)) + 0.5, [f"{s}\nn = {counts.get(s, 0)}" for s in sites]
        )
        axes.set_yticks(np.arange(len(rows)) + 0.5, [row.model for row in rows], color=INK)
        axes.set_xlabel("validation images of")
        axes.set_ylabel("model of")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        words = "; ".join(
            f"{row.model}: " + ", ".join(f"{s} {c.mcc:.3f}" for s, c in row.cells.items())
            for row in rows
        )
        return to_plot("cross-site", figure, f"Heat map of the MCC, model by row. {words}.")


def in_words(found: Interval, digits: int = 3) -> str:
    """Return a figure with its limits, e.g. `0.812 [0.764, 0.858]`; a dash where undefined."""
    if found.value is None:
        return "\N{EN DASH}"
    texts = [
        f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
        for value in (found.value, found.low, found.high)
        if value is not None
    ]
    return texts[0] if len(texts) < 3 else f"{texts[0]} [{texts[1]}, {texts[2]}]"
