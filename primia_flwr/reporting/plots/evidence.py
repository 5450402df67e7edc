"""Pictures of what stands behind the figures: intervals, reliability, the cross-site matrix."""

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from primia_flwr.numbers import BRACKETS, figure, interval
from primia_flwr.plotting import (
    COLOURS,
    DOTTED,
    HATCHED,
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
from primia_flwr.runs.evidence import FIGURES, Evidence

TITLES = {"accuracy": "Accuracy", "mcc": "MCC", "roc_auc": "ROC-AUC"}


def intervals(evidence: Evidence) -> Plot:
    """Draw every model's figures with their intervals on one scale a figure."""
    names = list(evidence.figures)
    height = 1.0 + 0.34 * len(names)
    with drawing(WIDE, height, 1, len(FIGURES), grid="x", sharey=True) as (drawn, panels):
        for axes, key in zip(panels, FIGURES, strict=True):
            for row, name in enumerate(reversed(names)):
                own, found = name == "Federated", evidence.figures[name][key]
                colour, face = (COLOURS[0], COLOURS[0]) if own else (MUTED, "white")
                if found.low is not None and found.high is not None:
                    axes.plot([found.low, found.high], [row, row], "-|", color=colour,
                              linewidth=2.4 if own else 1.4, markersize=8)  # fmt: skip
                if found.value is not None:
                    axes.plot(found.value, row, "o" if own else "s", color=colour,
                              markerfacecolor=face, markersize=7)  # fmt: skip
            axes.set_title(TITLES[key])
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.08)
        names_on_rows(panels, names)
    words = "; ".join(f"{n} {interval(of['mcc'], BRACKETS)}" for n, of in evidence.figures.items())
    return to_plot("intervals", drawn, f"95 % intervals of every model. MCC: {words}.")


def reliability(evidence: Evidence) -> Plot:
    """Draw accuracy over confidence, with intervals, above the number of images in each bin."""
    bins = evidence.reliability.bins
    points = np.array(
        [(b.confidence, b.accuracy, b.accuracy_low, b.accuracy_high) for b in bins if b.n],
        np.float64,
    ).reshape(-1, 4)
    x, y, low, high = points.T
    with drawing(4.6, 4.9, 2, 1, grid="both", sharex=True, height_ratios=(4, 1)) as (drawn, panels):
        upper, lower = panels
        upper.plot([0, 1], [0, 1], **DOTTED)
        reach = np.clip([y - low, high - y], 0, None)
        upper.errorbar(x, y, yerr=reach, color=COLOURS[0], marker="o", capsize=3, elinewidth=1.2)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share predicted right")
        lefts, widths = [b.low for b in bins], [b.high - b.low for b in bins]
        lower.bar(lefts, [b.n for b in bins], width=widths, align="edge", **HATCHED)
        lower.set(xlabel="probability of the predicted class", ylabel="images")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    words = "; ".join(
        f"{b.n} images at {b.confidence:.2f}: {b.accuracy:.2f} right"
        for b in bins
        if b.accuracy is not None and b.confidence is not None
    )
    return to_plot("reliability", drawn, f"Reliability diagram. {words}.")


def cross_site(matrix: CrossSite) -> Plot:
    """Draw the MCC of each model at each site; the darker, the higher; own images outlined."""
    rows, sites = matrix.rows, matrix.sites
    mcc = [{site: cell.figure("mcc") for site, cell in row.cells.items()} for row in rows]
    values = np.array([[of.get(site, np.nan) for site in sites] for of in mcc], np.float64)
    texts = np.array([[figure(value) for value in line] for line in values])
    size = min(WIDE, 2.4 + 1.15 * len(sites)), 1.2 + 0.55 * len(rows)
    with drawing(*size, grid="") as (drawn, axes):
        shade(axes, values, texts)
        for i, j in (
            (i, j) for i, row in enumerate(rows) for j, s in enumerate(sites) if row.model == s
        ):
            axes.texts[i * len(sites) + j].set_fontweight("bold")
            axes.add_patch(Rectangle((j + 0.05, i + 0.07), 0.9, 0.86, fill=False, linewidth=1.6,
                                     edgecolor=on_shade(values[i, j])))  # fmt: skip
        images = {s: cell.found.num_examples for row in rows for s, cell in row.cells.items()}
        axes.set_xticklabels([f"{site}\nn = {images.get(site, 0)}" for site in sites])
        axes.set_yticklabels([row.model for row in rows], color=INK)
        axes.set(xlabel="validation images of", ylabel="model of")
    words = "; ".join(
        f"{row.model}: " + ", ".join(f"{site} {value:.3f}" for site, value in of.items())
        for row, of in zip(rows, mcc, strict=True)
    )
    return to_plot("cross-site", drawn, f"Heat map of the MCC, model by row. {words}.")
