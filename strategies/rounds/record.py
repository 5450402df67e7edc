"""What a run writes down: rows of rounds and sites, events, and a checkpoint after every round."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from primia_flwr.data.fingerprint.facts import fingerprint
from primia_flwr.data.fingerprint.sums import Counts
from primia_flwr.privacy.mechanisms.averaging import averaged
from primia_flwr.runs.checkpoint import ArrayMap, Checkpoint, load_latest
from primia_flwr.runs.checkpoint_writer import CheckpointWriter
from primia_flwr.runs.cross_site import Cell
from primia_flwr.runs.history import BUSY, History, RoundRow, SiteRow, flat
from primia_flwr.storage.atomic import write_result
from primia_flwr.tasks.task import Evaluation
from strategies.aggregators.aggregator import Outcome
from strategies.rounds.config import LoopConfig
from strategies.rounds.state import RunState

FINGERPRINT = "fingerprint.json"

logger = logging.getLogger(__name__)


class RunRecord:
    """History, events and checkpoints in the folder of a run.

    Parameters
    ----------
    cfg : LoopConfig
        Its task names the columns, its hash the checkpoints that fit.
    folder : Path
        The run's output folder; created if missing.
    on_event : callable, optional
        Told what happens, in place of the folder's own events.jsonl.
    """

    def __init__(
        self, cfg: LoopConfig, folder: Path, on_event: Callable[..., None] | None = None
    ) -> None:
        self._cfg, self.folder = cfg, folder
        self.checkpoints = folder / "checkpoints"
        self.writer = CheckpointWriter(self.checkpoints)
        self.history = History(folder, [metric.name for metric in cfg.task.metrics])
        self.event = on_event or self.history.event
        self._mark = time.monotonic()

    def start_clock(self) -> None:
        """Count the seconds of the next round from now."""
        self._mark = time.monotonic()

    def volumes(self, vector: Sequence[float]) -> None:
        """Write the federation's fingerprint, where volumes were counted."""
        if vector:
            counts = Counts.read(vector)
            found = fingerprint(counts, self._cfg.classes, self._cfg.levels)
            write_result(self.folder / FINGERPRINT, found)

    def latest(self, model: ArrayMap) -> Checkpoint | None:
        """Take the history of the last checkpoint, and return it; None where there is none."""
        found = load_latest(self.checkpoints, config_hash=self._cfg.config_hash, model=model)
        if found is None:
            logger.warning("%s holds no checkpoint; starting at round 1", self.checkpoints)
            return None
        self.history.restore(found.state["history"])
        return found

    def save(self, state: RunState, strategy: ArrayMap) -> None:
        """Write history and checkpoint, the latter beside the next round where that may be.

        `strategy`: the rule's own arrays.
        """
        arrays: Mapping[str, ArrayMap] = {
            **state.arrays(),
            "strategy": {name: array.copy() for name, array in strategy.items()},
        }
        values = {**state.to_dict(), "history": self.history.to_dict()}
        self.writer.save(Checkpoint(self._cfg.config_hash, state.round, arrays, values))
        if self._cfg.private or self._cfg.relayed:
            self.writer.wait()  # what was paid for, or passed on, is not asked for again
        self.history.write()

    def on_row(self, row: SiteRow) -> None:
        """Tell of a site's reply."""
        known = {key: value for key, value in self.flat(row).items() if value is not None}
        self.event("site_reply", **known)

    def add_round(self, number: int, outcome: Outcome, rows: Sequence[SiteRow]) -> None:
        """Add the row of a round that has ended now; `rows` are those of all sites."""
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        good = sum(row.good for row in rows)
        training = outcome.training_seconds
        expected = len(self._cfg.federation.sites) - sum(row.status == BUSY for row in rows)
        row = RoundRow(
            round=number,
            seconds=round(seconds, 3),
            seconds_outside_training=round(max(seconds - training, 0.0), 3),
            train_loss=outcome.train_loss,
            sites=good,
            failed=expected - good,
            bytes_up=outcome.bytes_up,
            bytes_down=outcome.bytes_down,
            images_per_second=round(outcome.images / training, 2) if training > 0 else None,
            images=round(outcome.images),
        )
        self.history.rounds.append(row)

    def take_validation(self, state: RunState, validation: Evaluation | None) -> None:
        """Book what is now known of the model of `state.round`."""
        if state.round == 0 or state.validated == state.round:
            return
        state.validated = state.round
        if validation is None:
            return
        row = self.history.rounds[state.round - 1]
        row.validation = validation.figures()
        if state.patience.update(validation, state.round):
            state.best, state.validation = state.model, Cell(validation).to_dict()
        self.history.mark_best(state.best_round)

    def take_last(self, state: RunState) -> None:
        """Take the last model in: to choose one by its scores would be a release of its own."""
        state.best = averaged(
            state.best, state.model, decay=self._cfg.averaging, rounds=state.round - 1
        )
        self.history.mark_best(state.round)

    def tell_round(self, state: RunState) -> None:
        """Tell of the round that has ended, with the scores of the one before.

        Asynchronously only of the round: its scores, where there are any, are told by themselves.
        """
        if self._cfg.asynchronous:
            self.event("round_finished", **self.flat(self.history.rounds[-1]), val_round=0)
            return
        shown = self.flat(self.history.rounds[-1])
        if len(self.history.rounds) > 1:
            known = self.flat(self.history.rounds[-2])
            shown |= {key: value for key, value in known.items() if key.startswith("val_")}
        self.event("round_finished", **shown, val_round=state.validated)

    def flat(self, row: RoundRow | SiteRow) -> dict[str, Any]:
        """Return a row as the columns of its table."""
        return flat(row, self.history.metrics)
