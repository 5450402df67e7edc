"""The asynchronous aggregator: a round takes the updates that are ready, and waits for no others.

A site is sent the newest model whenever it is idle. A round ends when `buffer` updates have come,
of as many sites; whoever is still at work stays so over the round's end, and counts in a later one.
An update is that of the model which its site was sent, s rounds ago. With w its weight and d its
change, the model x becomes x + mixing * sum(w (1 + s)^-a d) / sum(w), or what a server optimiser
makes of that.

Where nobody is stale it is the mean of a plain round, bit for bit: updates of one age are added up
in fixed point, as there.

Sources: Nguyen et al. 2022, FedBuff, https://arxiv.org/abs/2106.06639, Algorithm 1, for the buffer
and the change as what counts; Xie et al. 2019, FedAsync, https://arxiv.org/abs/1903.03934, for the
weights and for a buffer of 1.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.held import held
from primia_flwr.runs.history import LATE, SiteRow
from strategies.aggregators.aggregator import OnRow, Outcome, Request
from strategies.aggregators.asynchronous.flush import Flush
from strategies.aggregators.exchange import bytes_of, complete, mean_loss, missing
from strategies.aggregators.fixed_point import FixedPointAggregator
from strategies.aggregators.reply_validator import Update
from strategies.aggregators.server_step import move_by_mean


@dataclass(frozen=True)
class _Sent:
    """A model at a site: in which round it was sent, and until when an answer counts."""

    site: str
    request: Request
    until: float


@dataclass(frozen=True)
class _Ready:
    """An update that has come and that no round has taken."""

    update: Update
    row: SiteRow
    since: int  # the round in which its site got the model

    def staleness(self, server_round: int) -> int:
        """Return how many rounds were made since the site got the model."""
        return server_round - self.since


def discount(staleness: int, power: float) -> float:
    """Return what an update counts that is so many rounds old: (1 + s)^-a."""
    return float((1 + staleness) ** -power)


class AsynchronousAggregator(FixedPointAggregator):
    """Averages the updates that are ready.

    Parameters
    ----------
    strategy, *args, **described
        As `FixedPointAggregator`.
    experiment : Experiment
        Says how many updates a round takes, and what a stale one counts.
    folder : Path, optional
        Not used: what is at work when the coordinator stops is asked for again.
    """

    def __init__(
        self,
        strategy: Strategy,
        *args: Any,
        experiment: Experiment,
        folder: Path | None = None,
        **described: Any,
    ) -> None:
        super().__init__(strategy, *args, **described)
        self._settings = experiment.aggregation
        self._pending: dict[str, int] = {}  # node by message
        self._at: dict[int, _Sent] = {}  # by node
        self._ready: list[_Ready] = []  # in the order in which they came

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Send the model to who is idle; wait until enough updates are ready, and take them.

        With fewer it ends when nobody is at work any more, and takes them if they are as many as a
        round needs.
        """
        flush = Flush(request, on_row, started=grid.now())
        self._send_idle(flush, grid)
        self._leave_out_old(flush)
        while self._pending and len(self._ready) < self._settings.buffer:
            self._hear(flush, grid)
            self._give_up_late(flush, grid)
            if self._pending and len(self._ready) < self._settings.buffer:
                waited = grid.now() - flush.started
                ends = min(self._at[node].until for node in self._pending.values())
                grid.pause(waited, ends - grid.now())
        self._take(flush)
        return self._finished(flush, grid)

    # --- What a round does ------------------------------------------------------------------

    def _send_idle(self, flush: Flush, grid: RosterGrid) -> None:
        """Send the model to all selected sites that have none, and whose update has been taken."""
        request, busy = flush.request, self._busy()
        config = ConfigRecord(dict(request.config))
        self._tell(config)
        asked = self._strategy.configure_train(
            request.server_round, self._own(held(request.arrays)), config, grid
        )
        outgoing = [
            complete(message, held(request.arrays), request.server_round)
            for message in sorted(asked, key=lambda one: grid.name_of(one.metadata.dst_node_id))
            if grid.name_of(message.metadata.dst_node_id) not in busy
        ]
        flush.outcome.bytes_down = sum(map(bytes_of, outgoing))
        sent = grid.send(outgoing, timeout=request.timeout)
        until = grid.now() + request.timeout
        for node in sent.values():
            self._at[node] = _Sent(grid.name_of(node), request, until)
        self._pending |= sent
        for node in grid.unsent if outgoing else ():
            flush.say(missing(request, grid.name_of(node), sent=False))

    def _hear(self, flush: Flush, grid: RosterGrid) -> None:
        """Look at what has come; of what comes at once, by the sites' names."""
        answers = sorted(grid.look(self._pending), key=lambda answer: grid.name_of(answer.node))
        for answer in answers:
            sent = self._at.pop(answer.node)
            flush.outcome.bytes_up += bytes_of(answer.message)
            found = self._validated(sent.request, sent.site, answer.message)
            flush.worked(answer.arrived, found.row.seconds)
            if found.update is None:
                flush.say(found.row)
            else:
                self._ready.append(_Ready(found.update, found.row, sent.request.server_round))
        self._leave_out_old(flush)

    def _give_up_late(self, flush: Flush, grid: RosterGrid) -> None:
        """Wait no longer for a site that has had the round's timeout since it got its model."""
        late = [i for i, node in self._pending.items() if grid.now() >= self._at[node].until]
        for message in late:
            node = self._pending.pop(message)
            grid.missed(node)
            sent = self._at.pop(node)
            flush.say(missing(sent.request, sent.site, sent=True))

    def _leave_out_old(self, flush: Flush) -> None:
        """Leave out updates that are older than `max_staleness`, and say so."""
        most, kept = self._settings.max_staleness, list[_Ready]()
        for ready in self._ready:
            staleness = ready.staleness(flush.request.server_round)
            if staleness <= most:
                kept.append(ready)
                continue
            self._encoded.pop(ready.update.site)
            reason = f"its model is {staleness} rounds old; aggregation.max_staleness={most}"
            row = replace(ready.row, status=LATE, reason=reason, staleness=staleness)
            flush.say(row)
        self._ready = kept

    def _take(self, flush: Flush) -> None:
        """Move the model by the oldest `buffer` of the updates, if they are enough."""
        request, buffer = flush.request, self._settings.buffer
        if len(self._ready) < min(buffer, request.min_updates):
            return
        taken, self._ready = self._ready[:buffer], self._ready[buffer:]
        taken.sort(key=lambda ready: ready.update.site)
        for ready in taken:
            flush.say(replace(ready.row, staleness=ready.staleness(request.server_round)))
        before = self._sent(request.arrays)
        mean = np.float32(self._settings.mixing) * self._mean(request.server_round, taken)
        moved = move_by_mean(self._strategy, request.server_round, before, mean, self._parameters)
        flush.outcome.arrays = {**request.arrays, **moved}
        flush.outcome.train_loss = mean_loss(flush.rows(), [ready.update for ready in taken])

    def _mean(self, server_round: int, taken: Sequence[_Ready]) -> npt.NDArray[np.float32]:
        """Return the mean change, float32: in fixed point of those of one age, then over the ages.

        It is divided by the sum of the weights without the discounts: a round of stale updates
        moves the model less, and does not weigh them against one another only.
        """
        by_age: dict[int, list[Update]] = defaultdict(list)
        for ready in taken:
            by_age[ready.staleness(server_round)].append(ready.update)
        total = sum(int(ready.update.weight) for ready in taken)
        parts = [self._part(age, by_age[age], total) for age in sorted(by_age)]
        mean = parts[0]
        for part in parts[1:]:
            mean = mean + part
        return mean.astype(np.float32)

    def _part(self, age: int, updates: Sequence[Update], total: int) -> npt.NDArray[np.float64]:
        """Return what the updates of one age add to the mean, (entries,)."""
        vector = np.zeros(self._layout.entries, np.uint32)
        for update in updates:
            vector += self._encoded.pop(update.site)
        weight = sum(int(update.weight) for update in updates)
        mean: Any = self._layout.mean_of([vector], weight)
        factor = discount(age, self._settings.staleness_power) * (weight / total)
        part: npt.NDArray[np.float64] = np.multiply(mean, factor, dtype=np.float64)
        return part

    def _finished(self, flush: Flush, grid: RosterGrid) -> Outcome:
        """Return what a round brought, with a row for each selected site."""
        now, number = grid.now(), flush.request.server_round
        for sent in self._at.values():
            flush.worked(now, now - flush.started)
            flush.busy(sent.site, f"at work on the model of round {sent.request.server_round}")
        for ready in self._ready:
            flush.busy(ready.update.site, f"its update waits for round {number + 1}")
        selected = {grid.name_of(node) for node in grid.get_node_ids()}
        return flush.finished(selected)

    # --- Small parts --------------------------------------------------------------------------

    def _busy(self) -> set[str]:
        """Return the sites that have a model, or whose update waits."""
        waiting = {ready.update.site for ready in self._ready}
        return waiting | {sent.site for sent in self._at.values()}

    def _tell(self, config: ConfigRecord) -> None:
        """Add what a site must know beside the model."""
