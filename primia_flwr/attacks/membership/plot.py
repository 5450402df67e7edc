"""The ROC of membership attacks on logarithmic axes, where few false alarms can be seen."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from primia_flwr.attacks.membership.detection import Detection
from primia_flwr.attacks.membership.dp_line import DpClaim
from primia_flwr.attacks.membership.membership import ATTACKS
from primia_flwr.reporting.plots.run import COLOURS, DASHES, INK, MUTED, Plot, plot_style, to_plot

_CHANCE = (0, (2, 2))


def roc_on_log_axes(
    name: str, found: Mapping[str, Detection], *, claim: DpClaim | None = None
) -> Plot:
    """Draw one curve an attack, guessing as a dotted line, and the bound of a private run.

    Parameters
    ----------
    name : str
        File name of the plot, e.g. `membership-image`.
    found : mapping of attack to Detection
        At most as many as there are dash patterns.
    claim : DpClaim, optional
        Drawn as the line that no attack can pass.
    """
    lowest = 1 / max(d.non_members for d in found.values())
    with plot_style({"axes.grid.axis": "both"}):
        figure = Figure(figsize=(4.9, 4.4), layout="constrained")
        axes = figure.subplots()
        rates = np.geomspace(lowest, 1, 200)
        axes.plot(rates, rates, color=MUTED, linewidth=1, linestyle=_CHANCE, label="guessing")
        if claim:
            most = [claim.most(rate) for rate in rates]
            words = f"bound, epsilon {claim.epsilon:.3g}"
            axes.plot(rates, most, color=INK, linewidth=3, alpha=0.35, label=words)
        for index, (attack, detection) in enumerate(found.items()):
            axes.step(
                np.maximum(detection.fpr, lowest),
                np.maximum(detection.tpr, lowest),
                where="post",
                color=COLOURS[index],
                linestyle=DASHES[index],
                label=f"{ATTACKS[attack][0]}  {detection.auc.value:.3f}",
            )
        axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1), aspect="equal")
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right", title="attack, area", title_fontsize=9, alignment="left")
        areas = ", ".join(f"{ATTACKS[a][0]} {d.auc.value:.3f}" for a, d in found.items())
        return to_plot(
            name, figure, f"ROC curves of membership inference on log axes. Areas: {areas}."
        )
