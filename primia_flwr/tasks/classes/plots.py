"""The pictures of one classifier: what was called what, ROC curves, reliability."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from primia_flwr.plotting import (
    COLOURS,
    DOTTED,
    HATCHED,
    Plot,
    drawing,
    line_style,
    roc_axes,
    shade,
    to_plot,
)
from primia_flwr.tasks.classes.evidence import ClassEvidence
from primia_flwr.tasks.classes.scores import Scores, roc_curve
from primia_flwr.tasks.predictions import Predictions


def called_classes(scores: Scores) -> Plot:
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
    found = [(k, name) for k, name in enumerate(predictions.names) if name in areas]
    if not found:
        return None
    with drawing(4.3, 4.1, grid="both") as (figure, axes):
        roc_axes(axes)
        for index, (k, name) in enumerate(found):
            fpr, tpr = roc_curve(predictions.labels, predictions.outputs, k)
            label = f"{name}  {areas[name]:.3f}"
            axes.plot(fpr, tpr, label=label, **line_style(index, marker=False))
        axes.legend(loc="lower right", title="class, area", title_fontsize=9, alignment="left")
    words = ", ".join(f"{name} {areas[name]:.3f}" for _, name in found)
    return to_plot("roc", figure, f"ROC curves, each class against the rest. Areas: {words}.")


def reliability(evidence: ClassEvidence) -> Plot:
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
