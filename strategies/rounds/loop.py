"""The rounds of a run, from its beginning or a checkpoint to what comes after the last.

A checkpoint is written beside the next round.
"""

import logging
from dataclasses import replace
from pathlib import Path

from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.keys import OWN_ROUND, RESULT
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.cross_site import FEDERATED, FILE, write_matrix
from strategies.aggregators.aggregator import Aggregator
from strategies.rounds.config import LoopConfig
from strategies.rounds.cross_site import cross_site_matrix
from strategies.rounds.participation import Participation
from strategies.rounds.record import RunRecord
from strategies.rounds.state import RunState
from strategies.rounds.steps import RoundSteps

logger = logging.getLogger(__name__)


class RoundLoop(RoundSteps):
    """Runs the federation.

    Parameters
    ----------
    cfg, grid, aggregator
        As `RoundSteps`.
    folder : Path
        The run's output folder: history, events and checkpoints go there.
    """

    def __init__(
        self, cfg: LoopConfig, grid: RosterGrid, aggregator: Aggregator, folder: Path
    ) -> None:
        record = RunRecord(cfg, folder)
        participation = Participation(cfg.federation, grid, aggregator, record.event)
        super().__init__(cfg, grid, aggregator, record=record, participation=participation)

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
        with self._record.writer:
            self._rounds(state)
        self._record.history.write()
        self._record.event(
            "finished", rounds=state.round, best_round=state.best_round, stopped=state.stopped
        )
        return state

    def _rounds(self, state: RunState) -> None:
        """Take the rounds that are left, and what comes after the last."""
        self._record.start_clock()  # a wait for the sites before is no part of a round
        while not state.stopped:
            self._round(state)
        if not self._cfg.reports_nothing and state.validated < state.round:
            self._validate_last(state)
        if self._cfg.cross_site:
            self._cross_site(state)
        if self._cfg.own_layers:
            self._hand_out(state)

    # --- After the last round ---------------------------------------------------------------

    def _validate_last(self, state: RunState) -> None:
        self._validate_now(state)
        if state.patience.best_step is None:
            state.best = state.model
        self._save(state)

    def _cross_site(self, state: RunState) -> None:
        """Have every site that is there validate each site's own model, and keep the counts.

        A coordinator that was started again after the last round has no site's model left.
        """
        folder = self._record.folder
        known = self._aggregator.compared(state.best, state.best_round).keys() - {FEDERATED}
        if not known and (folder / FILE).is_file():
            return
        request = replace(self._request(state, state.round), arrays=state.best)
        matrix = cross_site_matrix(self._aggregator, request, self._grid, state.best_round)
        write_matrix(folder, matrix)
        self._record.event("cross_site", models=len(matrix.rows), sites=len(matrix.sites))

    def _hand_out(self, state: RunState) -> None:
        """Give the sites the result, which each saves with its own layers of that round."""
        request = replace(self._request(state, state.round), arrays=state.best)
        request.config.update({OWN_ROUND: state.best_round, RESULT: 1})
        outcome = self._validate(state, request)
        saved = outcome.count() if outcome else 0
        if saved < len(self._federation.sites):
            logger.warning("%d sites have saved the result with their own layers", saved)
        self._record.event("handed_out", round=state.best_round, sites=saved)
