"""The loop of a search: ask for a point, run it, tell what came of it, until all are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import TrialState

from primia_flwr.config.search.space import Space
from primia_flwr.errors import FederationError
from primia_flwr.search.study import COMPLETE, FAILED, answered
from primia_flwr.search.trial import Outcome
from primia_flwr.tasks.task import Metric

RunTrial = Callable[[optuna.Trial, dict[str, Any]], Outcome]
_IN_A_ROW = 3  # so many failures one after the other are no bad luck of a point
_STATES = {COMPLETE: TrialState.COMPLETE, FAILED: TrialState.FAIL}


def run_search(
    study: optuna.Study,
    space: Space,
    run_trial: RunTrial,
    *,
    trials: int,
    say: Callable[[str], None],
    metric: Metric,
) -> None:
    """Ask and tell until `trials` trials have ended, those that the study holds included.

    A trial that is pruned, diverges or has values the configuration refuses counts as a bad point;
    one that an error ended counts as no point at all.

    Raises
    ------
    FederationError
        If three trials in a row fail: then it is not the points that are wrong.
    """
    in_a_row = 0
    while (done := len(answered(study))) < trials:
        trial = study.ask(space.distributions())
        values = space.decode(trial.params)
        say(f"trial {trial.number} ({done + 1} of {trials}): {_short(values)}")
        result = _run(trial, values, run_trial)
        state = _STATES.get(result.kind, TrialState.PRUNED)
        study.tell(trial, result.value, state=state)
        say(f"trial {trial.number}: {_sentence(result, metric)}")
        in_a_row = in_a_row + 1 if result.kind == FAILED else 0
        if in_a_row == _IN_A_ROW:
            raise FederationError(
                f"{_IN_A_ROW} trials in a row failed, the last because: {result.reason}; the "
                "search stops; remove the cause and go on with sweep.resume=<its folder>"
            )


def enqueue_default(study: optuna.Study, space: Space, base: Mapping[str, Any]) -> bool:
    """Have the experiment as it is tried first; return whether it lies in the space."""
    values = {name: base[name] for name in space.names}
    if study.get_trials(deepcopy=False) or not all(
        space.dimensions[name].contains(value) for name, value in values.items()
    ):
        return False
    study.enqueue_trial(space.encode(values), user_attrs={"default": True})
    return True


def _run(trial: optuna.Trial, values: dict[str, Any], run_trial: RunTrial) -> Outcome:
    started = time.monotonic()
    result = run_trial(trial, values)
    trial.set_user_attr("outcome", result.kind)
    trial.set_user_attr("rounds", result.round)
    trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
    if result.reason:
        trial.set_user_attr("reason", result.reason)
    return result


def _short(values: Mapping[str, Any]) -> str:
    """Return values in one line, with few digits: for eyes, not for repetition."""
    shown = (
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
    return " ".join(shown)


def _sentence(result: Outcome, metric: Metric) -> str:
    if result.value is not None:
        return f"validation {metric.words} {result.value:.3f}"
    return f"{result.kind} after round {result.round}: {result.reason}"
