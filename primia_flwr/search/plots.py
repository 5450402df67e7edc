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
from primia_flwr.tasks.task import Metric

LEAST_FOR_IMPORTANCE = 10  # complete trials; the trees of fANOVA guess with fewer

_Trial = Mapping[str, Any]


def history_plot(trials: Sequence[_Trial], metric: Metric) -> Plot:
    """Draw the objective of each trial and the best so far; trials without one at the foot."""
    key = metric.column
    complete = [t for t in trials if t[key] is not None]
    x, y = [t["trial"] for t in complete], [t[key] for t in complete]
    over = np.maximum if metric.higher_is_better else np.minimum
    ring: dict[str, Any] = {"markerfacecolor": "none", "markersize": 10, "linestyle": "none"}
    with drawing(WIDE, 3.3) as (figure, axes):
        axes.plot(x, y, "o", color=COLOURS[0], label="complete")
        if y:
            so_far = over.accumulate(y)
            axes.step(x, so_far, where="post", color=COLOURS[1], label="best so far")
        for t in (t for t in complete if t["default"]):
            label = "the experiment as it was"
            axes.plot(t["trial"], t[key], "s", color=INK, label=label, **ring)
        rest = [t["trial"] for t in trials if t[key] is None]
        _foot(axes, rest, min(y, default=0.0))
        axes.set(xlabel="trial", ylabel=f"validation {metric.words}", title="Optimisation history")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    best = f" The best is {metric.best(y):.3f}." if y else ""
    return to_plot(
        "history",
        figure,
        f"Validation {metric.words} of {len(complete)} complete trials, one dot each, in the order "
        f"in which they ran, with a line for the best so far.{best} Crosses at the foot mark "
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


def importance_plot(shares: Mapping[str, float], metric: Metric) -> Plot:
    """Draw the importances as bars, the largest on top."""
    names = list(shares)[::-1]
    with drawing(WIDE, 0.9 + 0.3 * len(names), grid="x") as (figure, axes):
        bars = axes.barh(names, [shares[name] for name in names], height=0.6, color=COLOURS[0])
        axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, color=INK)
        what = f"share of the variance of the validation {metric.words}"
        axes.set(title="Importance", xlabel=what)
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
    words = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    return to_plot("importance", figure, f"Bar chart of the importance of each key: {words}.")


def _foot(axes: Axes, rest: Sequence[int], lowest: float) -> None:
    if rest:
        label = "pruned, diverged or failed"
        axes.plot(rest, [lowest] * len(rest), "x", color=MUTED, markersize=7, label=label)
