"""Federated search: many configurations in one run, and after every rung the best go on.

Each configuration trains from its own weights, and each of its rounds is an ordinary round of
the run: the sites validate and train, and the coordinator learns sums over them. What decides
is the objective of the task from the summed counts; no site's own score is needed.

All configurations take a round before one takes the next. A site answers a round, and a model,
for one list of sites only, so that a site that is lost holds up one round and not all of them.

Source: Jamieson & Talwalkar 2016, successive halving.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from primia_flwr.config.experiment.halving import Rung, rounds_in_all
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.search.searched import with_values
from primia_flwr.errors import FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import History, append_event
from primia_flwr.storage.atomic import write_result
from primia_flwr.tasks.task import LOSS
from strategies.aggregators.aggregator import Aggregator
from strategies.fedsearch.population import Values, draw_population
from strategies.fedsearch.record import account
from strategies.fedsearch.trial import Trial
from strategies.rounds.config import LoopConfig
from strategies.rounds.participation import Participation
from strategies.rounds.record import FINGERPRINT

_FILE, _FOLDER = "search.json", "search"


class SearchLoop:
    """Runs a search.

    Parameters
    ----------
    experiment : Experiment
        With a search; decides space, population and rungs.
    grid : RosterGrid
        Who can be asked.
    aggregator : Aggregator
        How they are asked.
    folder : Path
        The run's output folder. `search/configuration-003` below it is as a run's of its own.
    classes : sequence of str
        Their names, for the fingerprint of volumes.
    population : sequence of dict, optional
        The configurations; drawn from the space if not given.

    Raises
    ------
    ConfigError
        If the space gives too few configurations.
    """

    def __init__(
        self,
        experiment: Experiment,
        grid: RosterGrid,
        aggregator: Aggregator,
        folder: Path,
        *,
        classes: Sequence[str] = (),
        population: Sequence[Values] | None = None,
    ) -> None:
        self._experiment, self._folder = experiment, folder
        self._rungs = experiment.search.rungs(experiment.federation.rounds)
        self._rung = 0
        self.trials: list[Trial] = []
        drawn = population or draw_population(experiment, self._rungs[0].configurations)
        participation = Participation(experiment.federation, grid, aggregator, self._event)
        self.trials = [
            Trial(
                number,
                values,
                replace(LoopConfig.of(with_values(experiment, values)), classes=tuple(classes)),
                grid,
                aggregator,
                participation=participation,
                folder=folder / _FOLDER / f"configuration-{number:03d}",
                on_event=self._event,
            )
            for number, values in enumerate(drawn)
        ]
        self._climbing = list(self.trials)

    def run(self, model: ArrayMap, *, resume: bool = False) -> Trial:
        """Search, or go on from the last checkpoints.

        Returns
        -------
        Trial
            The one that is left; its `state.best` is the model.

        Raises
        ------
        FederationError
            If too few sites are there or answer well (the run can be resumed), or if all
            configurations diverge.
        CheckpointError
            If a checkpoint cannot be written, or none fits when resuming.
        """
        self._begin(model, resume=resume)
        field, before = self.trials, 0
        for index, rung in enumerate(self._rungs):
            self._rung = index
            field, before = self._climb(field, before, rung), rung.rounds
            self._write(field[0])
        chosen = field[0]
        self._climbing = [chosen]
        self._write(chosen, finished=True)
        self._event(
            "finished",
            configuration=chosen.number,
            rounds=chosen.state.round,
            best_round=chosen.state.best_round,
            stopped=chosen.state.stopped,
        )
        return chosen

    # --- Beginnings -----------------------------------------------------------------------

    def _begin(self, model: ArrayMap, *, resume: bool) -> None:
        known = [trial for trial in self.trials if resume and trial.resume(model)]
        if not known:
            self.trials[0].ask_statistics(model)
            made = self._folder / _FOLDER / "configuration-000" / FINGERPRINT
            if made.exists():  # of the data, whatever the configuration
                made.replace(self._folder / FINGERPRINT)
            known = [self.trials[0]]
        for trial in self.trials:
            if trial not in known:
                trial.begin_like(known[0], model)

    # --- One rung ---------------------------------------------------------------------------

    def _climb(self, field: Sequence[Trial], before: int, rung: Rung) -> list[Trial]:
        """Train the best of a field up to the rung's rounds; return those that came so far.

        Best first. Where all of them diverge, the next best take their places.
        """
        waiting = _ranked(field, before)
        while waiting:
            climbers, waiting = waiting[: rung.configurations], waiting[rung.configurations :]
            self._climbing = climbers
            for position in range(before + 1, rung.rounds + 1):
                for trial in climbers:
                    if trial.state.round < position and not trial.state.stopped:
                        trial.train()
                        self._write(_ranked(climbers, before)[0])
            for trial in climbers:
                trial.validate()
            arrived = [trial for trial in climbers if trial.completed(rung.rounds)]
            if arrived:
                return _ranked(arrived, rung.rounds)
        raise self._diverged(field)

    def _diverged(self, field: Sequence[Trial]) -> FederationError:
        reasons = "; ".join(f"{t.number}: {t.state.stopped}" for t in field if t.diverged)
        return FederationError(
            f"all {len(field)} configurations of rung {self._rung + 1} of the search diverged "
            f"({reasons:.400}); expected at least one that trains; lower the learning rates in "
            "search.space, or set training.gradient_clip=1.0"
        )

    # --- The record -------------------------------------------------------------------------

    def _event(self, name: str, **values: object) -> None:
        append_event(
            self._folder,
            name,
            configurations=self._rungs[0].configurations,
            rung=self._rung + 1,
            rungs=len(self._rungs),
            done=sum(trial.state.round for trial in self.trials if trial.begun),
            total=rounds_in_all(self._rungs),
            **values,
        )

    def _write(self, leader: Trial, *, finished: bool = False) -> None:
        """Write search.json, and the rounds of the leader as those of the run."""
        chosen = leader if finished else None
        content = account(self._experiment, self._rungs, self.trials, self._climbing, chosen)
        write_result(self._folder / _FILE, content)
        history = History(self._folder, [metric.name for metric in leader.task.metrics])
        history.rounds, history.sites = leader.rows, leader.site_rows
        history.write()


def _ranked(field: Sequence[Trial], rounds: int) -> list[Trial]:
    """Sort configurations by objective, then loss, of the model they gave in so many rounds."""

    def key(trial: Trial) -> tuple[float, float, int]:
        best = trial.best_by(rounds)
        if best is None or not best.validation:
            return (0.0, 0.0, trial.number) if rounds == 0 else (math.inf, 0.0, trial.number)
        value = best.validation[trial.task.objective]
        better = trial.task.metric(trial.task.objective).higher_is_better
        return (-value if better else value, best.validation[LOSS], trial.number)

    return sorted(field, key=key)
