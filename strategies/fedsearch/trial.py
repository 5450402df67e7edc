"""One configuration of a search: rounds of its own, from its own weights, in a run with others."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from primia_flwr.errors import DivergenceError, FederationError
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.keys import TRIAL, VALUES
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.history import DIVERGED, RoundRow, SiteRow
from primia_flwr.tasks.task import Task
from strategies.aggregators.aggregator import Aggregator, Outcome, Request
from strategies.rounds.config import LoopConfig
from strategies.rounds.participation import Participation
from strategies.rounds.record import RunRecord
from strategies.rounds.state import RunState
from strategies.rounds.steps import RoundSteps

_OnEvent = Callable[..., None]


class Trial(RoundSteps):
    """The rounds of one configuration.

    They are those of an ordinary run: numbered from 1, with the same first weights, seeds and
    position in the learning rate's schedule. So the sites' rule that a round is answered for one
    list of sites holds over all configurations, and the model is the one that an ordinary run of
    this configuration would give.

    Parameters
    ----------
    number : int
        In the population.
    values : mapping
        What differs from the experiment, by key.
    cfg, grid, aggregator
        As `RoundSteps`; the aggregator is shared with the other configurations.
    participation : Participation
        Shared too.
    folder : Path
        Of this configuration: history and checkpoints.
    on_event : callable
        Told what happens, with the configuration's number.
    """

    def __init__(
        self,
        number: int,
        values: Mapping[str, Any],
        cfg: LoopConfig,
        grid: RosterGrid,
        aggregator: Aggregator,
        *,
        participation: Participation,
        folder: Path,
        on_event: _OnEvent,
    ) -> None:
        record = RunRecord(cfg, folder, partial(on_event, configuration=number))
        super().__init__(cfg, grid, aggregator, record=record, participation=participation)
        self._server: ArrayMap = {}  # the server optimiser's moments, of this configuration
        self._state: RunState | None = None
        self.number, self.values = number, dict(values)

    # --- Beginnings -----------------------------------------------------------------------

    def resume(self, model: ArrayMap) -> bool:
        """Go on from the last checkpoint; tell whether there is one."""
        if not self._record.checkpoints.is_dir():
            return False
        self._state = self._resume(model)
        self._server = self._aggregator.state()
        return self._state is not None

    def ask_statistics(self, model: ArrayMap) -> None:
        """Begin as the first of all: wait for the sites and ask for their statistics."""
        self._state = self._begin(model)

    def begin_like(self, other: "Trial", model: ArrayMap) -> None:
        """Begin with the statistics that another configuration has been told."""
        self._state = replace(
            other.state,
            model=model,
            best=model,
            patience=self._cfg.patience(),
            sites=[],
            round=0,
            validated=0,
            stopped="",
        )

    # --- What it does -----------------------------------------------------------------------

    def train(self) -> None:
        """Train one round, or find that the configuration diverges."""
        self._record.start_clock()
        self._aggregator.load_state(self._server)
        with self._until_it_diverges():
            self._round(self.state)
        self._server = self._aggregator.state()

    def validate(self) -> None:
        """Have the newest model validated, if it is not yet.

        Raises
        ------
        FederationError
            If too few sites did.
        """
        state = self.state
        if state.validated == state.round or self.diverged:
            return
        self._aggregator.load_state(self._server)
        with self._until_it_diverges():
            outcome = self._validate(state, wait=True)
            if outcome is None or outcome.validation is None:
                raise FederationError(
                    f"configuration {self.number}: no validation of its model after round "
                    f"{state.round}; expected validation images at federation.min_sites="
                    f"{self._federation.min_sites} sites; see to the sites and go on with "
                    "`primia train resume=<output folder>`"
                )
            self._record.take_validation(state, outcome.validation)
            self._save(state)

    # --- What is known of it ----------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """Where it is."""
        assert self._state is not None, "it has not begun"
        return self._state

    @property
    def begun(self) -> bool:
        """Whether it has a state."""
        return self._state is not None

    @property
    def diverged(self) -> bool:
        """Whether it was given up, because its training gave no usable numbers."""
        return self.state.stopped.startswith(DIVERGED)

    def completed(self, rounds: int) -> bool:
        """Whether it had so many rounds and its model was validated, or it stopped early."""
        state = self.state
        early = bool(state.stopped) and not self.diverged and state.validated == state.round
        return (state.validated >= rounds or early) and self.best_by(rounds) is not None

    @property
    def rows(self) -> list[RoundRow]:
        """Its rounds."""
        return self._record.history.rounds

    @property
    def site_rows(self) -> list[SiteRow]:
        """What each site answered in them."""
        return self._record.history.sites

    @property
    def task(self) -> Task:
        """By whose metrics it is judged."""
        return self._cfg.task

    @property
    def image_passes(self) -> int:
        """Images that all sites trained on in its rounds, repeats counted."""
        return sum(row.images for row in self.rows)

    def best_by(self, rounds: int) -> RoundRow | None:
        """Return the round whose model an ordinary run of so many rounds would give.

        None where no model was validated.
        """
        stopping, best = self._cfg.stopping, None
        metric = self.task.metric(stopping.monitor)
        for row in self.rows[:rounds]:
            value = row.validation.get(metric.name)
            known = best.validation.get(metric.name) if best else None
            if value is not None and metric.improves(value, known, stopping.min_delta):
                best = row
        return best

    # --- Differences from an ordinary run -----------------------------------------------------

    def _request(self, state: RunState, number: int) -> Request:
        request = super()._request(state, number)
        request.config[TRIAL] = self.number
        request.config[VALUES] = json.dumps(self.values, sort_keys=True)
        return request

    def _check(self, outcome: Outcome) -> None:
        """Give up where a site's training diverges: a repetition would do so again."""
        super()._check(outcome)
        diverged = [row for row in outcome.rows if row.status == DIVERGED]
        if diverged:
            self._record.history.sites.extend(outcome.rows)
            raise DivergenceError("; ".join(f"{row.site}: {row.reason}" for row in diverged))

    @contextmanager
    def _until_it_diverges(self) -> Iterator[None]:
        """Book a divergence as the configuration's end."""
        try:
            yield
        except DivergenceError as error:
            self.state.stopped = f"{DIVERGED}: {error}"
            self._save(self.state)
            self._record.event("configuration_diverged", reason=str(error))
