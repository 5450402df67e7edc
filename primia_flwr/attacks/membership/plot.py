"""The ROC of membership attacks on logarithmic axes, where few false alarms can be seen."""

from collections.abc import Mapping

import numpy as np

from primia_flwr.attacks.membership.detection import Detection
from primia_flwr.attacks.membership.dp_line import DpClaim
from primia_flwr.attacks.membership.membership import ATTACKS
from primia_flwr.plotting import DOTTED, INK, Plot, drawing, line_style, to_plot


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
    rates = np.geomspace(lowest, 1, 200)
    with drawing(4.5, 4.1, grid="both") as (figure, axes):
        axes.plot(rates, rates, label="guessing", **DOTTED)
        if claim:
            most = [claim.most(rate) for rate in rates]
            words = f"bound, epsilon {claim.epsilon:.3g}"
            axes.plot(rates, most, color=INK, linewidth=3, alpha=0.35, label=words)
        for index, (attack, detection) in enumerate(found.items()):
            fpr, tpr = (np.maximum(rate, lowest) for rate in (detection.fpr, detection.tpr))
            label = f"{ATTACKS[attack][0]}  {detection.auc.value:.3f}"
            axes.step(fpr, tpr, where="post", label=label, **line_style(index, marker=False))
        axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1), aspect="equal")
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right", title="attack, area", title_fontsize=9, alignment="left")
    areas = ", ".join(f"{ATTACKS[a][0]} {d.auc.value:.3f}" for a, d in found.items())
    return to_plot(name, figure, f"ROC curves of membership inference on log axes. Areas: {areas}.")
