"""The picture of several findings: the ROC curve of each, over its known labels."""

from sklearn.metrics import roc_curve

from primia_flwr.plotting import Plot, drawing, line_style, roc_axes, to_plot
from primia_flwr.tasks.findings import UNKNOWN
from primia_flwr.tasks.findings.scores import FindingsScores
from primia_flwr.tasks.predictions import Predictions


def roc_curves(predictions: Predictions, scores: FindingsScores) -> Plot | None:
    """Draw one curve a finding; None where no finding has both labels."""
    areas = {n: s.auc for n, s in scores.per_finding.items() if s.auc is not None}
    found = [(k, name) for k, name in enumerate(predictions.names) if name in areas]
    if not found:
        return None
    with drawing(4.8, 4.4, grid="both") as (figure, axes):
        roc_axes(axes)
        for index, (k, name) in enumerate(found):
            labels = predictions.labels[:, k]
            known = labels != UNKNOWN
            fpr, tpr, _ = roc_curve(labels[known], predictions.outputs[known, k])
            style = line_style(index, marker=False)
            axes.plot(fpr, tpr, label=f"{name}  {areas[name]:.3f}", **style)
        axes.legend(loc="lower right", title="finding, area", title_fontsize=9, alignment="left")
    words = ", ".join(f"{name} {areas[name]:.3f}" for _, name in found)
    return to_plot("roc", figure, f"ROC curve of each finding. Areas: {words}.")
