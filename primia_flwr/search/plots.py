"""The pictures of a search: its history, which keys matter, and which values went together.

Drawn in the style of the run's report; light and dark, and the shape of a mark, carry the
meaning, so that they can be read in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from optuna.importance import FanovaImportanceEvaluator

from primia_flwr.plotting import COLOURS, INK, MUTED, WIDE, Plot, drawing, to_plot

LEAST_FOR_IMPORTANCE = 10  # complete trials; the trees of fANOVA guess with fewer

Trial = Mapping[str, Any]


def history_plot(trials: Sequence[Trial]) -> Plot:
    """Draw the objective of each trial and the best so far; trials without one at the foot."""
    complete = [t for t in trials if t["val_mcc"] is not None]
    x, y = [t["trial"] for t in complete], [t["val_mcc"] for t in complete]
    ring: dict[str, Any] = {"markerfacecolor": "none", "markersize": 10, "linestyle": "none"}
    with drawing(WIDE, 3.3) as (figure, axes):
        axes.plot(x, y, "o", color=COLOURS[0], label="complete")
        if y:
            so_far = np.maximum.accumulate(y)
            axes.step(x, so_far, where="post", color=COLOURS[1], label="best so far")
        for t in (t for t in complete if t["default"]):
            label = "the experiment as it was"
            axes.plot(t["trial"], t["val_mcc"], "s", color=INK, label=label, **ring)
        _foot(axes, trials, min(y, default=0.0))
        axes.set(xlabel="trial", ylabel="validation MCC", title="Optimisation history")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    best = f" The best is {max(y):.3f}." if y else ""
    return to_plot(
        "history",
        figure,
        f"Validation MCC of {len(complete)} complete trials, one dot each, in the order in which "
        f"they ran, with a line for the best so far.{best} Crosses at the foot mark "
        f"{len(trials) - len(complete)} trials without a result.",
    )


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the share of the variance of the objective that each key explains, largest first.

    Empty with fewer than 10 complete trials, or if all scored alike. Source: Hutter et al. 2014,
    An Efficient Approach for Assessing Hyperparameter Importance (functional ANOVA).
    """
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < LEAST_FOR_IMPORTANCE or len({t.value for t in complete}) < 2:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def importance_plot(shares: Mapping[str, float]) -> Plot:
    """Draw the importances as bars, the largest on top."""
    names = list(shares)[::-1]
    with drawing(WIDE, 0.9 + 0.3 * len(names), grid="x") as (figure, axes):
        bars = axes.barh(names, [shares[name] for name in names], height=0.6, color=COLOURS[0])
        axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, color=INK)
        axes.set(title="Importance", xlabel="share of the variance of the validation MCC")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
    words = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    return to_plot("importance", figure, f"Bar chart of the importance of each key: {words}.")


def _foot(axes: Axes, trials: Sequence[Trial], lowest: float) -> None:
    rest = [t["trial"] for t in trials if t["val_mcc"] is None]
    if rest:
        label = "pruned, diverged or failed"
        axes.plot(rest, [lowest] * len(rest), "x", color=MUTED, markersize=7, label=label)
