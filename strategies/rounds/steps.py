"""What a run and each configuration of a search are made of: a beginning, rounds, validations.

A site validates the incoming model before it trains, so round r's answers tell how good the
model of round r-1 is; the last model gets one aggregator of its own. After every round a
checkpoint holds all that decides the future, so a resumed run repeats an uninterrupted one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flwr.app import ConfigRecord

from primia_flwr.data.statistics import PixelSums
from primia_flwr.errors import DivergenceError, FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.keys import LABEL_COUNTS, PIXEL_MEAN, PIXEL_STD
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import BUSY, OK, SiteRow
from strategies.aggregators.aggregator import Aggregator, Outcome, Request
from strategies.rounds.config import LoopConfig
from strategies.rounds.participation import Participation
from strategies.rounds.record import RunRecord
from strategies.rounds.state import RunState

logger = logging.getLogger(__name__)

# A round with too few good updates is asked again, this often in all.
MAX_ATTEMPTS = 3
# Why a run ended: all rounds done; no better model for `patience` rounds; sites stopped training.
_ALL_ROUNDS, _EARLY, SITES_STOPPED = "rounds", "early-stopping", "sites-stopped"


class RoundSteps:
    """Takes the steps of one model's training, each when it is told to.

    Parameters
    ----------
    cfg : LoopConfig
        Rounds, sites, early stopping.
    grid : RosterGrid
        Who can be asked.
    aggregator : Aggregator
        How they are asked.
    record : RunRecord
        Where all of it is written down.
    participation : Participation
        Who takes part.
    """

    def __init__(
        self,
        cfg: LoopConfig,
        grid: RosterGrid,
        aggregator: Aggregator,
        *,
        record: RunRecord,
        participation: Participation,
    ) -> None:
        self._cfg, self._federation = cfg, cfg.federation
        self._grid, self._aggregator = grid, aggregator
        self._record, self._participation = record, participation

    # --- Beginnings -----------------------------------------------------------------------

    def _begin(self, model: ArrayMap) -> RunState:
        self._record.event("started", rounds=self._federation.rounds, sites=self._federation.sites)
        self._participation.gather(0, self._federation.min_sites)
        sums = self._statistics()
        self._record.volumes(sums.volume_counts)
        return RunState.begun(self._cfg, model, sums)

    def _statistics(self) -> PixelSums:
        if self._cfg.reports_nothing and self._cfg.normalisation.kind == "fixed":
            return PixelSums(0, (), (), (), ())
        timeout = self._federation.round_timeout
        return self._aggregator.statistics(self._grid, timeout=timeout).sums

    def _resume(self, model: ArrayMap) -> RunState | None:
        found = self._record.latest(model)
        if found is None:
            return None
        self._aggregator.load_state(found.arrays.get("strategy", {}))
        self._record.event("resumed", round=found.round)
        if not found.state["stopped"]:
            self._participation.gather(found.round, self._federation.min_sites)
        return RunState.resumed(found, model)

    # --- One round ------------------------------------------------------------------------

    def _round(self, state: RunState) -> None:
        number = state.round + 1
        self._record.event("round_started", round=number, rounds=self._federation.rounds)
        needed, wanted = self._federation.min_sites, list[str]()
        earlier: dict[str, str] = {}
        for attempt in range(1, MAX_ATTEMPTS + 1):
            absent = self._participation.gather(number, needed, wanted)
            asked = self._request(state, number)
            outcome = self._aggregator.train(asked, self._grid, self._record.on_row)
            told = {row.site for row in outcome.rows}
            absent = [row for row in absent if row.site not in told]
            rows = _with_earlier([*outcome.rows, *absent], earlier)
            if outcome.arrays is not None:
                return self._finish_round(state, outcome, rows)
            if self._have_stopped(outcome):
                return self._stop_with_sites(state, outcome, rows)
            self._check(outcome)
            earlier = {row.site: f"attempt {attempt}: {_why(row)}" for row in rows if _failed(row)}
            needed = min(needed + outcome.resting, len(self._federation.sites))
            wanted = outcome.wait_for
            updates = outcome.count(OK)
            self._record.event("round_repeated", round=number, attempt=attempt, updates=updates)
        raise self._given_up(number, outcome, rows)

    def _given_up(self, number: int, outcome: Outcome, rows: list[SiteRow]) -> FederationError:
        """Write the rows of a round down that nothing came of, and say why."""
        self._record.history.sites.extend(rows)
        self._record.history.write()
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
        self._take_verdicts(state, outcome)
        if outcome.arrays is not None:
            state.model, state.round = outcome.arrays, state.round + 1
        self._record.add_round(state.round, outcome, rows)
        if self._cfg.reports_nothing or self._is_newest_best(state):
            self._record.take_last(state)
        self._record.history.sites.extend(rows)
        if self._cfg.validates(state.round):
            self._validate_now(state)
        if state.patience.should_stop:
            state.stopped = _EARLY
        elif state.round == self._federation.rounds:
            state.stopped = _ALL_ROUNDS
        self._save(state)
        self._record.tell_round(state)

    def _stop_with_sites(self, state: RunState, outcome: Outcome, rows: list[SiteRow]) -> None:
        """End the run: the model stays, and has just been validated."""
        self._take_verdicts(state, outcome)
        state.stopped = SITES_STOPPED
        self._record.history.sites.extend(rows)
        self._save(state)

    def _take_verdicts(self, state: RunState, outcome: Outcome) -> None:
        """Book what a round's answers say of the model that it began with, where all say it."""
        if not (self._cfg.reports_nothing or self._cfg.asynchronous):
            self._record.take_validation(state, outcome.validation)

    def _is_newest_best(self, state: RunState) -> bool:
        """Whether no model has been validated so far, in a run whose rounds do not validate."""
        return self._cfg.asynchronous and state.patience.best_step is None

    # --- Validation and what is kept ----------------------------------------------------------

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
            outcome = self._aggregator.evaluate(asked, self._grid, self._record.on_row)
            if outcome.count() >= self._federation.min_sites:
                return outcome
            self._check(outcome)
            wanted = outcome.wait_for if wait else []
        return None

    def _validate_now(self, state: RunState) -> None:
        """Have all sites validate the newest model, and book what they find."""
        outcome = self._validate(state)
        if outcome is None:
            logger.warning("too few sites validated the model; it is not compared")
        self._record.take_validation(state, outcome.validation if outcome else None)
        row = self._record.history.rounds[state.round - 1]
        self._record.event("validated", **self._record.flat(row))

    def _save(self, state: RunState) -> None:
        known = {site["site"]: site for site in state.sites}
        known |= {site["site"]: site for site in self._aggregator.sites()}
        state.sites = [known[name] for name in sorted(known)]
        self._record.save(state, self._aggregator.state())


def _with_earlier(rows: Sequence[SiteRow], earlier: Mapping[str, str]) -> list[SiteRow]:
    """Keep what went wrong in an earlier attempt in the row of the site, sorted by name."""
    noted = [
        replace(row, reason=earlier[row.site]) if row.good and row.site in earlier else row
        for row in rows
    ]
    return sorted(noted, key=lambda row: row.site)


def _failed(row: SiteRow) -> bool:
    return not row.good and row.status != BUSY


def _why(row: SiteRow) -> str:
    return f"{row.status} ({row.reason})"
