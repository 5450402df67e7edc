"""The pictures of a search: its history, which keys matter, and which values went together.

Drawn in the style of the run's report; light and dark, and the shape of a mark, carry the
meaning, so that they can be read in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import FanovaImportanceEvaluator

from primia_flwr.evaluation.plots import COLOURS, INK, MUTED, Plot, plot_style, to_plot
from primia_flwr.search.table import shown

LEAST_FOR_IMPORTANCE = 10  # complete trials; the trees of fANOVA guess with fewer
_MOST_AXES = 8

Trial = Mapping[str, Any]


def history_plot(trials: Sequence[Trial]) -> Plot:
    """Draw the objective of each trial and the best so far; trials without one at the foot."""
    complete = [t for t in trials if t["val_mcc"] is not None]
    with plot_style():
        figure = Figure(figsize=(9.4, 3.3), layout="constrained")
        axes = figure.subplots()
        x, y = [t["trial"] for t in complete], [t["val_mcc"] for t in complete]
        axes.plot(x, y, "o", color=COLOURS[0], label="complete")
        if y:
            axes.step(
                x, np.maximum.accumulate(y), where="post", color=COLOURS[1], label="best so far"
            )
        for t in (t for t in complete if t["default"]):
            axes.plot(
                t["trial"], t["val_mcc"], "s", color=INK, markerfacecolor="none", markersize=10,
                linestyle="none", label="the experiment as it was",
            )  # fmt: skip
        _foot(axes, trials, min(y, default=0.0))
        axes.set(xlabel="trial", ylabel="validation MCC", title="Optimisation history")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        best = f" The best is {max(y):.3f}." if y else ""
        return to_plot(
            "history",
            figure,
            f"Validation MCC of {len(complete)} complete trials, one dot each, in the order in "
            f"which they ran, with a line for the best so far.{best} Crosses at the foot mark "
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
    with plot_style({"axes.grid.axis": "x"}):
        figure = Figure(figsize=(9.4, 0.9 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(names, [shares[name] for name in names], height=0.6, color=COLOURS[0])
        axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, color=INK)
        axes.set(title="Importance", xlabel="share of the variance of the validation MCC")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        words = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        return to_plot("importance", figure, f"Bar chart of the importance of each key: {words}.")


def parallel_plot(trials: Sequence[Trial], names: Sequence[str], space: Mapping[str, Any]) -> Plot:
    """Draw each complete trial as a line over the keys' axes; the darker, the better."""
    complete = sorted(
        (t for t in trials if t["val_mcc"] is not None), key=lambda t: float(t["val_mcc"])
    )
    scores = np.array([t["val_mcc"] for t in complete], np.float64)
    names = list(names)[:_MOST_AXES]
    spread = max(float(np.ptp(scores)), 1e-9) if len(scores) else 1.0
    shade = mpl.colors.LinearSegmentedColormap.from_list("ink", ["#c9d3dc", COLOURS[0]])
    with plot_style({"axes.grid": False}):
        figure = Figure(figsize=(9.4, 3.9), layout="constrained")
        axes = figure.subplots()
        for t, score in zip(complete, scores, strict=True):
            share = (score - scores.min()) / spread
            heights = [_height(space[name], t["values"][name]) for name in names]
            axes.plot(
                range(len(names) + 1), [*heights, share], color=shade(share),
                linewidth=2.6 if t is complete[-1] else 1.1, zorder=2 + share,
            )  # fmt: skip
        for position, name in enumerate(names):
            _axis(axes, position, [(_height(space[name], v), v) for v in _ends(space[name])])
        low_high = [(0.0, scores.min()), (1.0, scores.max())] if len(scores) else []
        _axis(axes, len(names), low_high)
        labels = [name.replace(".", ".\n") for name in names]
        axes.set_xticks(range(len(names) + 1), [*labels, "validation\nMCC"], fontsize=8)
        axes.set(title="Which values went together", ylim=(-0.12, 1.12))
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return to_plot(
            "parallel",
            figure,
            f"Parallel coordinates of {len(complete)} complete trials over {', '.join(names)} and "
            "the validation MCC. Each trial is one line, the darker, the better; the best is "
            "thick. The values stand in the table below.",
        )


def _foot(axes: Axes, trials: Sequence[Trial], lowest: float) -> None:
    rest = [t["trial"] for t in trials if t["val_mcc"] is None]
    if rest:
        label = "pruned, diverged or failed"
        axes.plot(rest, [lowest] * len(rest), "x", color=MUTED, markersize=7, label=label)


def _axis(axes: Axes, position: int, ticks: Sequence[tuple[float, Any]]) -> None:
    axes.axvline(position, ymin=0.1, ymax=0.9, color=MUTED, linewidth=0.8, zorder=1)
    for height, value in ticks:
        above = height > 0.5
        axes.annotate(
            shown(value), (position, height), (0, 4 if above else -4), fontsize=8, color=INK,
            textcoords="offset points", ha="center", va="bottom" if above else "top",
        )  # fmt: skip


def _ends(spec: Mapping[str, Any]) -> list[Any]:
    """Return the values to write at an axis: both ends, or all choices of a few."""
    if "choices" in spec:
        return list(spec["choices"])
    return [spec["low"], spec["high"]]


def _height(spec: Mapping[str, Any], value: Any) -> float:
    """Return where a value lies between the ends of its axis, from 0 to 1."""
    if "choices" in spec:
        choices = list(spec["choices"])
        return choices.index(value) / max(len(choices) - 1, 1)
    low, high = spec["low"], spec["high"]
    if spec.get("log"):
        return float(np.log(value / low) / np.log(high / low))
    return float((value - low) / (high - low))
