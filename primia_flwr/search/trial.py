"""One trial of a search: a run that is followed as it goes on, and ended when it is hopeless."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.flower.launcher import RunStopped
from primia_flwr.pipeline.experiment import Watcher
from primia_flwr.runs.history import DIVERGED as SITE_STATUS_DIVERGED
from primia_flwr.runs.history import Event, EventTail
from primia_flwr.search.study import COMPLETE, DIVERGED, FAILED, INVALID, PRUNED
from primia_flwr.tasks.task import Metric
from primia_flwr.training.round import DIVERGED as SITE_DIVERGED


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    `kind` is one of the outcomes of `primia_flwr.search.study`; `value` is the objective, None
    unless the trial is complete; `round` the last round whose end was seen, 0 for none.
    """

    kind: str
    value: float | None = None
    round: int = 0
    reason: str = ""


@dataclass
class _Progress:
    """What is known of a run: the last round, and the objective of each round's model."""

    round: int = 0
    values: dict[int, float] = field(default_factory=dict)


class Follower:
    """Reads a run's events, reports each validation's objective to Optuna, and may stop the run.

    Parameters
    ----------
    view : Watcher
        Who is told as well, e.g. the live view.
    trial : optuna.Trial
        The trial that the run belongs to.
    run_dir : Path
        The run's output folder.
    rounds : int
        Rounds of the whole run; after the last one nothing is left to save by pruning.
    metric : Metric
        The objective.
    """

    def __init__(
        self, view: Watcher, trial: optuna.Trial, run_dir: Path, rounds: int, metric: Metric
    ) -> None:
        self._view = view
        self._trial = trial
        self._rounds = rounds
        self.metric = metric
        self._tail = EventTail(run_dir / "events.jsonl")
        self.progress = _Progress()

    def update(self) -> None:
        """Look at what is new.

        Raises
        ------
        RunStopped
            If the trial has diverged, or the pruner gives it up.
        """
        self._view.update()
        for event in self._tail.new():
            self._hear(event)

    def hear_the_rest(self) -> None:
        """Read what came between the last look and the end of the run."""
        self._rounds = 0
        self.update()

    def say(self, text: str) -> None:
        """Pass a sentence on."""
        self._view.say(text)

    def step(self, name: str, done: float, total: float, note: str) -> None:
        """Pass the progress of a step on."""
        self._view.step(name, done, total, note)

    def _hear(self, event: Event) -> None:
        name = event.get("event")
        if name == "site_reply" and _tells_of_divergence(event):
            self._stop(DIVERGED, f"{event.get('site')}: {event['reason']}")
        if name not in ("round_finished", "validated"):
            return
        finished = name == "round_finished"
        self.progress.round = int(event["round"])
        wanted = self.metric.column
        for key in ("train_loss", "val_loss", wanted):
            number = event.get(key)
            if number is not None and not math.isfinite(number):
                self._stop(DIVERGED, f"{key} became {number} in round {event['round']}")
        step = int(event["val_round"] if finished else event["round"])
        if event.get(wanted) is not None and step not in self.progress.values:
            value = self.progress.values[step] = float(event[wanted])
            self._trial.report(value, step)
            if int(event["round"]) < self._rounds and self._trial.should_prune():
                words = f"validation {self.metric.words} {value:.3f} of round {step}"
                self._stop(PRUNED, words)

    def _stop(self, kind: str, reason: str) -> None:
        facts = {"status": kind, "rounds": self.progress.round, "stopped": reason}
        raise RunStopped(reason, facts)


def outcome_of(run: Callable[[], object], follower: Follower) -> Outcome:
    """Run a trial and return what became of it; only the user's own stop goes through.

    A trial whose values the configuration refuses is invalid, one that an error ends is failed.
    """
    progress = follower.progress
    try:
        run()
        follower.hear_the_rest()
    except RunStopped as stop:
        return Outcome(str(stop.facts["status"]), None, progress.round, str(stop))
    except ConfigError as error:
        return Outcome(INVALID, None, progress.round, _sentence(error))
    except PrimiaError as error:
        return _ended_by(error, follower)
    except Exception as error:
        reason = f"{type(error).__name__}: {_sentence(error)}"
        return Outcome(FAILED, None, progress.round, reason)
    metric = follower.metric
    if not progress.values:
        return Outcome(FAILED, None, progress.round, f"no validation {metric.words} was reported")
    return Outcome(COMPLETE, metric.best(progress.values.values()), progress.round)


def _ended_by(error: PrimiaError, follower: Follower) -> Outcome:
    """Return what an error makes of a trial; the events not yet read may say that it diverged."""
    try:
        follower.hear_the_rest()
    except RunStopped as stop:
        return Outcome(str(stop.facts["status"]), None, follower.progress.round, str(stop))
    kind = DIVERGED if SITE_DIVERGED in str(error) else FAILED
    return Outcome(kind, None, follower.progress.round, _sentence(error))


def _tells_of_divergence(event: Event) -> bool:
    """Tell whether a site's training diverged: it says so, or its update left the agreed range."""
    reason = str(event.get("reason", ""))
    return event.get("status") == SITE_STATUS_DIVERGED or SITE_DIVERGED in reason


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
