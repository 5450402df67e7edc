"""The rounds of a run: ask, aggregate, validate, stop early, keep the best, write it all down.

A site validates the incoming model before it trains, so round r's answers tell how good the
model of round r-1 is; the last model gets one aggregator of its own. After every round a
checkpoint holds all that decides the future, so a resumed run repeats an uninterrupted one; it is
written beside the next round.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from flwr.app import ConfigRecord

from primia_flwr.config.experiment.data import NormalisationConfig
from primia_flwr.config.experiment.federation import FederationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.training import FederationStoppingConfig
from primia_flwr.config.load import config_hash
from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import DivergenceError, FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.keys import LABEL_COUNTS, OWN_ROUND, PIXEL_MEAN, PIXEL_STD, RESULT
from primia_flwr.privacy.mechanisms.averaging import averaged
from primia_flwr.runs.checkpoint import GLOBAL, ArrayMap, Checkpoint, load_latest
from primia_flwr.runs.checkpoint_writer import CheckpointWriter
from primia_flwr.runs.cross_site import FEDERATED, FILE, Cell, write_matrix
from primia_flwr.runs.history import OK, History, RoundRow, SiteRow, flat
from primia_flwr.tasks.task import Evaluation, Task
from primia_flwr.training.normalisation import Normalisation
from primia_flwr.training.stopping.early import Patience
from strategies.aggregators.aggregator import Aggregator, Outcome, Request
from strategies.rounds.cross_site import cross_site_matrix
from strategies.rounds.participation import Participation

logger = logging.getLogger(__name__)

# A round with too few good updates is asked again, this often in all.
MAX_ATTEMPTS = 3
_LEAST_NOISY_STD = 0.05  # noise can make a variance 0; pixels are in [0, 1]
# Why a run ended: all rounds done; no better model for `patience` rounds; sites stopped training.
_ALL_ROUNDS, _EARLY, SITES_STOPPED = "rounds", "early-stopping", "sites-stopped"


@dataclass(frozen=True)
class LoopConfig:
    """What the loop needs of an experiment.

    `private`: the run claims differential privacy. Then nothing is asked of the sites but updates:
    no exact statistics, no validation; all rounds are run, and the last model is the result, or
    the average of the rounds' models with the weight `averaging` of the past. So it is where models
    are `sealed`. `relayed`: a round has steps, which are kept on the disk beside the checkpoints.
    `cross_site`: at the end each site's own model is validated at every site. `own_layers`: at the
    end each site is given the result, to save it with its own layers.
    """

    federation: FederationConfig
    stopping: FederationStoppingConfig
    normalisation: NormalisationConfig
    channels: int
    config_hash: str
    task: Task
    private: bool = False
    averaging: float = 0.0
    cross_site: bool = False
    relayed: bool = False
    sealed: bool = False
    own_layers: bool = False

    @property
    def reports_nothing(self) -> bool:
        """Whether the sites are asked for nothing but updates."""
        return self.private or self.sealed

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Take it from an experiment."""
        return cls(
            federation=experiment.federation,
            stopping=experiment.training.early_stopping.federation,
            normalisation=experiment.data.normalisation,
            channels=experiment.data.channels,
            config_hash=config_hash(experiment),
            task=experiment.task,
            private=bool(experiment.privacy.protected_unit),
            averaging=experiment.privacy.averaging,
            cross_site=experiment.debug.cross_site or experiment.strategy.vote == "insulearn",
            own_layers=experiment.model.keeps_layers,
            relayed=experiment.aggregation.relayed,
            sealed=experiment.aggregation.sealed,
        )


@dataclass
class RunState:
    """Where a run is.

    `validated` is the last round whose model has been validated, `validation` what the sites'
    counts of the best model add up to; nothing where none was. `best` is the result so far: in a
    private run the last model, or the average of all.
    """

    model: ArrayMap
    best: ArrayMap
    patience: Patience
    mean: tuple[float, ...]
    std: tuple[float, ...]
    label_counts: list[int]
    side_counts: list[int] = field(default_factory=list)
    sites: list[dict[str, Any]] = field(default_factory=list)
    round: int = 0
    validated: int = 0
    validation: dict[str, Any] = field(default_factory=dict)
    stopped: str = ""

    @property
    def best_round(self) -> int:
        """The round of the best model; the last round where none was validated."""
        return self.patience.best_step or self.round


class RoundLoop:
    """Runs the federation.

    Parameters
    ----------
    cfg : LoopConfig
        Rounds, sites, early stopping.
    grid : RosterGrid
        Who can be asked.
    aggregator : Aggregator
        How they are asked.
    folder : Path
        The run's output folder: history, events and checkpoints go there.
    """

    def __init__(
        self, cfg: LoopConfig, grid: RosterGrid, aggregator: Aggregator, folder: Path
    ) -> None:
        self._cfg = cfg
        self._federation = cfg.federation
        self._grid = grid
        self._aggregator = aggregator
        self._folder = folder
        self._checkpoints = folder / "checkpoints"
        self._writer = CheckpointWriter(self._checkpoints)
        self._history = History(folder, [metric.name for metric in cfg.task.metrics])
        self._participation = Participation(cfg.federation, grid, aggregator, self._history.event)
        self._mark = time.monotonic()

    def run(self, model: ArrayMap, *, resume: bool = False) -> RunState:
        """Train from an initial model, or go on from the last checkpoint.

        Returns
        -------
        RunState
            With the best model in `best`.

        Raises
        ------
        FederationError
            If too few sites are there or answer well; the run can be resumed.
        CheckpointError
            If a checkpoint cannot be written, or none fits when resuming.
        """
        state = (self._resume(model) if resume else None) or self._begin(model)
        with self._writer:
            self._rounds(state)
        self._history.write()
        self._event(
            "finished", rounds=state.round, best_round=state.best_round, stopped=state.stopped
        )
        return state

    def _rounds(self, state: RunState) -> None:
        """Take the rounds that are left, and what comes after the last."""
        self._mark = time.monotonic()  # a wait for the sites before is no part of a round
        while not state.stopped:
            self._round(state)
        if not self._cfg.reports_nothing and state.validated < state.round:
            self._validate_last(state)
        if self._cfg.cross_site:
            self._cross_site(state)
        if self._cfg.own_layers:
            self._hand_out(state)

    # --- Beginnings -----------------------------------------------------------------------

    def _begin(self, model: ArrayMap) -> RunState:
        self._event("started", rounds=self._federation.rounds, sites=self._federation.sites)
        self._participation.gather(0, self._federation.min_sites)
        sums = self._statistics()
        normalisation = self._normalisation(sums)
        stopping = self._cfg.stopping
        return RunState(
            model=model,
            best=model,
            patience=Patience(stopping.monitor, stopping.patience, stopping.min_delta),
            mean=normalisation.mean,
            std=normalisation.std,
            label_counts=[int(count) for count in sums.label_counts],
            side_counts=[int(count) for count in sums.side_counts],
        )

    def _statistics(self) -> PixelSums:
        if self._cfg.reports_nothing and self._cfg.normalisation.kind == "fixed":
            return PixelSums(0, (), (), (), ())
        timeout = self._federation.round_timeout
        return self._aggregator.statistics(self._grid, timeout=timeout).sums

    def _normalisation(self, sums: PixelSums) -> Normalisation:
        cfg = self._cfg.normalisation
        if cfg.kind == "federated":
            least = _LEAST_NOISY_STD if self._cfg.private else 0.0
            return Normalisation(sums.mean(), tuple(max(std, least) for std in sums.std()))
        repeat = self._cfg.channels if len(cfg.mean) == len(cfg.std) == 1 else 1
        return Normalisation(tuple(cfg.mean) * repeat, tuple(cfg.std) * repeat)

    def _resume(self, model: ArrayMap) -> RunState | None:
        found = load_latest(self._checkpoints, config_hash=self._cfg.config_hash, model=model)
        if found is None:
            logger.warning("%s holds no checkpoint; starting at round 1", self._checkpoints)
            return None
        values = dict(found.state)
        self._history.restore(values.pop("history"))
        self._aggregator.load_state(found.arrays.get("strategy", {}))
        self._event("resumed", round=found.round)
        if not values["stopped"]:
            self._participation.gather(found.round, self._federation.min_sites)
        return RunState(
            model={name: found.arrays[GLOBAL][name] for name in model},
            best={name: found.arrays["best"][name] for name in model},
            patience=Patience.from_dict(values.pop("patience")),
            mean=tuple(values.pop("mean")),
            std=tuple(values.pop("std")),
            round=found.round,
            **values,
        )

    # --- One round ------------------------------------------------------------------------

    def _round(self, state: RunState) -> None:
        number = state.round + 1
        self._event("round_started", round=number, rounds=self._federation.rounds)
        needed, wanted = self._federation.min_sites, list[str]()
        earlier: dict[str, str] = {}
        for attempt in range(1, MAX_ATTEMPTS + 1):
            absent = self._participation.gather(number, needed, wanted)
            outcome = self._aggregator.train(self._request(state, number), self._grid, self._on_row)
            rows = _with_earlier([*outcome.rows, *absent], earlier)
            if outcome.arrays is not None:
                return self._finish_round(state, outcome, rows)
            if self._have_stopped(outcome):
                return self._stop_with_sites(state, outcome, rows)
            self._check(outcome)
            earlier = {row.site: f"attempt {attempt}: {_why(row)}" for row in rows if not row.good}
            needed = min(needed + outcome.resting, len(self._federation.sites))
            wanted = outcome.wait_for
            self._event("round_repeated", round=number, attempt=attempt, updates=outcome.count(OK))
        raise self._given_up(number, outcome, rows)

    def _given_up(self, number: int, outcome: Outcome, rows: list[SiteRow]) -> FederationError:
        """Write the rows of a round down that nothing came of, and say why."""
        self._history.sites.extend(rows)
        self._history.write()
        return FederationError(
            f"round {number}: {outcome.count(OK)} good updates in each of {MAX_ATTEMPTS} attempts "
            f"({'; '.join(f'{row.site}: {_why(row)}' for row in rows if not row.good)}); expected "
            f"federation.min_sites={self._federation.min_sites}; see to those sites and go on with "
            "`primia train resume=<output folder>`"
        )

    def _request(self, state: RunState, number: int) -> Request:
        config = ConfigRecord(
            {
                PIXEL_MEAN: list(state.mean),
                PIXEL_STD: list(state.std),
                **({LABEL_COUNTS: list(state.label_counts)} if state.label_counts else {}),
            }
        )
        federation = self._federation
        return Request(number, state.model, config, federation.round_timeout, federation.min_sites)

    def _check(self, outcome: Outcome) -> None:
        """Look at an outcome with too few good answers before it is asked for again."""
        if outcome.declined:
            raise DivergenceError(
                f"{outcome.declined} of {len(outcome.rows)} sites declined: a training that "
                "diverged, an update beyond aggregation.clip, a weight above "
                "aggregation.max_weight, or too few images; lower training.learning_rate, or "
                "raise those bounds"
            )

    def _have_stopped(self, outcome: Outcome) -> bool:
        """Whether so many sites only validate that enough updates can no longer come."""
        left = len(self._federation.sites) - outcome.resting
        return left < self._federation.min_sites

    def _finish_round(self, state: RunState, outcome: Outcome, rows: list[SiteRow]) -> None:
        if not self._cfg.reports_nothing:
            self._take_validation(state, outcome.validation)
        if outcome.arrays is not None:
            state.model, state.round = outcome.arrays, state.round + 1
        self._history.rounds.append(self._row(state.round, outcome, rows))
        if self._cfg.reports_nothing:
            self._take_last(state)
        self._history.sites.extend(rows)
        if state.patience.should_stop:
            state.stopped = _EARLY
        elif state.round == self._federation.rounds:
            state.stopped = _ALL_ROUNDS
        self._save(state)
        shown = self._flat(self._history.rounds[-1])
        if len(self._history.rounds) > 1:
            known = self._flat(self._history.rounds[-2])
            shown |= {key: value for key, value in known.items() if key.startswith("val_")}
        self._event("round_finished", **shown, val_round=state.validated)

    def _stop_with_sites(self, state: RunState, outcome: Outcome, rows: list[SiteRow]) -> None:
        """End the run: the model stays, and has just been validated."""
        self._take_validation(state, outcome.validation)
        state.stopped = SITES_STOPPED
        self._history.sites.extend(rows)
        self._save(state)

    def _row(self, number: int, outcome: Outcome, rows: Sequence[SiteRow]) -> RoundRow:
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        good = sum(row.good for row in rows)
        training = outcome.training_seconds
        roster = len(self._federation.sites)
        return RoundRow(
            round=number,
            seconds=round(seconds, 3),
            seconds_outside_training=round(max(seconds - training, 0.0), 3),
            train_loss=outcome.train_loss,
            sites=good,
            failed=roster - good,
            bytes_up=outcome.bytes_up,
            bytes_down=outcome.bytes_down,
            images_per_second=round(outcome.images / training, 2) if training > 0 else None,
            images=round(outcome.images),
        )

    # --- Validation and the record ----------------------------------------------------------

    def _take_validation(self, state: RunState, validation: Evaluation | None) -> None:
        """Book what is now known of the model of `state.round`."""
        if state.round == 0 or state.validated == state.round:
            return
        state.validated = state.round
        if validation is None:
            return
        row = self._history.rounds[state.round - 1]
        row.validation = validation.figures()
        if state.patience.update(validation, state.round):
            state.best, state.validation = state.model, Cell(validation).to_dict()
        self._history.mark_best(state.best_round)

    def _validate(
        self, state: RunState, request: Request | None = None, *, wait: bool = False
    ) -> Outcome | None:
        """Have the sites validate the last model, or that of a request; None where too few did.

        `wait`: for sites without which a repetition cannot succeed.
        """
        wanted = list[str]()
        for _ in range(MAX_ATTEMPTS):
            self._participation.gather(state.round, self._federation.min_sites, wanted)
            asked = request or self._request(state, state.round)
            outcome = self._aggregator.evaluate(asked, self._grid, self._on_row)
            if outcome.count() >= self._federation.min_sites:
                return outcome
            self._check(outcome)
            wanted = outcome.wait_for if wait else []
        return None

    def _validate_last(self, state: RunState) -> None:
        outcome = self._validate(state)
        if outcome is None:
            logger.warning("too few sites validated the last model; it is not compared")
        self._take_validation(state, outcome.validation if outcome else None)
        if state.patience.best_step is None:
            state.best = state.model
        self._save(state)
        row = self._history.rounds[state.round - 1]
        self._event("validated", **self._flat(row))

    def _cross_site(self, state: RunState) -> None:
        """Have every site that is there validate each site's own model, and keep the counts.

        A coordinator that was started again after the last round has no site's model left.
        """
        known = self._aggregator.compared(state.best, state.best_round).keys() - {FEDERATED}
        if not known and (self._folder / FILE).is_file():
            return
        request = replace(self._request(state, state.round), arrays=state.best)
        matrix = cross_site_matrix(self._aggregator, request, self._grid, state.best_round)
        write_matrix(self._folder, matrix)
        self._event("cross_site", models=len(matrix.rows), sites=len(matrix.sites))

    def _hand_out(self, state: RunState) -> None:
        """Give the sites the result, which each saves with its own layers of that round."""
        request = replace(self._request(state, state.round), arrays=state.best)
        request.config.update({OWN_ROUND: state.best_round, RESULT: 1})
        outcome = self._validate(state, request)
        saved = outcome.count() if outcome else 0
        if saved < len(self._federation.sites):
            logger.warning("%d sites have saved the result with their own layers", saved)
        self._event("handed_out", round=state.best_round, sites=saved)

    def _take_last(self, state: RunState) -> None:
        """Take the last model in: to choose one by its scores would be a release of its own."""
        state.best = averaged(
            state.best, state.model, decay=self._cfg.averaging, rounds=state.round - 1
        )
        self._history.mark_best(state.round)

    def _save(self, state: RunState) -> None:
        known = {site["site"]: site for site in state.sites}
        known |= {site["site"]: site for site in self._aggregator.sites()}
        state.sites = [known[name] for name in sorted(known)]
        arrays: Mapping[str, ArrayMap] = {
            GLOBAL: state.model,
            "best": state.best,
            "strategy": {k: v.copy() for k, v in self._aggregator.state().items()},
        }
        values = {**_values(state), "history": self._history.to_dict()}
        self._writer.save(Checkpoint(self._cfg.config_hash, state.round, arrays, values))
        if self._cfg.private or self._cfg.relayed:
            self._writer.wait()  # what was paid for, or passed on, is not asked for again
        self._history.write()

    def _on_row(self, row: SiteRow) -> None:
        known = {key: value for key, value in self._flat(row).items() if value is not None}
        self._event("site_reply", **known)

    def _flat(self, row: RoundRow | SiteRow) -> dict[str, Any]:
        return flat(row, self._history.metrics)

    def _event(self, name: str, **values: object) -> None:
        self._history.event(name, **values)


def _values(state: RunState) -> dict[str, Any]:
    return {
        "patience": state.patience.to_dict(),
        "mean": list(state.mean),
        "std": list(state.std),
        "label_counts": state.label_counts,
        "side_counts": state.side_counts,
        "sites": state.sites,
        "validated": state.validated,
        "validation": state.validation,
        "stopped": state.stopped,
    }


def _with_earlier(rows: Sequence[SiteRow], earlier: Mapping[str, str]) -> list[SiteRow]:
    """Keep what went wrong in an earlier attempt in the row of the site, sorted by name."""
    noted = [
        replace(row, reason=earlier[row.site]) if row.good and row.site in earlier else row
        for row in rows
    ]
    return sorted(noted, key=lambda row: row.site)


def _why(row: SiteRow) -> str:
    return f"{row.status} ({row.reason})"
