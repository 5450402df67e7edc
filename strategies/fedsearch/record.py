"""`search.json`: what a search tried, what each configuration reached, and what was chosen."""

from collections.abc import Collection, Sequence
from typing import Any

from primia_flwr.config.experiment.halving import Rung
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.search.searched import space_of
from primia_flwr.tasks.task import LOSS
from strategies.fedsearch.trial import Trial

_CHOSEN, _OUT, _DIVERGED, _CLIMBING = "chosen", "out", "diverged", "climbing"


def account(
    experiment: Experiment,
    rungs: Sequence[Rung],
    trials: Sequence[Trial],
    climbing: Collection[Trial],
    chosen: Trial | None,
) -> dict[str, Any]:
    """Return the content of search.json.

    Parameters
    ----------
    experiment : Experiment
        The search's.
    rungs, trials : sequence
        The plan, and all configurations.
    climbing : collection of Trial
        Those of the present rung.
    chosen : Trial or None
        The search's result, None while it runs.
    """
    search = experiment.search
    return {
        "method": "successive halving" if search.halving else "random search",
        "eta": search.eta,
        "seed": experiment.seed,
        "space": space_of(experiment).to_dict(),
        "rungs": [vars(rung) for rung in rungs],
        "image_passes": sum(trial.image_passes for trial in trials),
        "chosen": None if chosen is None else chosen.number,
        "configurations": [_entry(t, rungs, _status(t, climbing, chosen)) for t in trials],
    }


def _status(trial: Trial, climbing: Collection[Trial], chosen: Trial | None) -> str:
    if trial is chosen:
        return _CHOSEN
    if trial.diverged:
        return _DIVERGED
    return _CLIMBING if trial in climbing else _OUT


def _entry(trial: Trial, rungs: Sequence[Rung], status: str) -> dict[str, Any]:
    return {
        "configuration": trial.number,
        "values": trial.values,
        "status": status,
        "reason": trial.state.stopped if trial.diverged else "",
        "image_passes": trial.image_passes,
        **_reached(trial, trial.state.round),
        "rungs": [_reached(trial, r.rounds) for r in rungs if trial.completed(r.rounds)],
    }


def _reached(trial: Trial, rounds: int) -> dict[str, Any]:
    """Return the best model of so many rounds, and what they cost."""
    best = trial.best_by(rounds)
    scores = best.validation if best else {}
    return {
        "rounds": min(rounds, trial.state.round),
        "best_round": best.round if best else None,
        trial.task.objective: scores.get(trial.task.objective),
        LOSS: scores.get(LOSS),
        "image_passes": sum(row.images for row in trial.rows[:rounds]),
    }
