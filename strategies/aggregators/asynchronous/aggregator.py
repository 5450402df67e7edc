"""The asynchronous aggregator: a round takes the updates that are ready, and waits for no others.

A site is sent the newest model whenever it is idle. A round ends when `buffer` updates have come,
of as many sites; whoever is still at work stays so over the round's end, and counts in a later one.
An update is that of the model which its site was sent, s rounds ago. With w its weight and d its
change, the model x becomes x + mixing * sum(w (1 + s)^-a d) / sum(w), or what a server optimiser
makes of that.

It is computed in the fixed point of all other runs: where nobody is stale it is the mean of a plain
round, bit for bit, and always that of secure sums over the same updates (`aggregation=buffered`).

Sources: Nguyen et al. 2022, FedBuff, https://arxiv.org/abs/2106.06639, Algorithm 1, for the buffer
and the change as what counts; Xie et al. 2019, FedAsync, https://arxiv.org/abs/1903.03934, for the
weights and for a buffer of 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord, Message
from flwr.serverapp.strategy import Strategy

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.buffered import discount
from primia_flwr.messages.held import held
from primia_flwr.runs.history import SiteRow
from strategies.aggregators.aggregator import OnRow, Outcome, Request
from strategies.aggregators.asynchronous.flush import Flush
from strategies.aggregators.asynchronous.ready import Ready, ReadySites
from strategies.aggregators.exchange import complete, mean_loss
from strategies.aggregators.fixed_point import FixedPointAggregator
from strategies.aggregators.server_step import move_by_mean


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
        self._sites_ready = ReadySites(self._settings, self._read)

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Send the model to who is idle; wait until enough updates are ready, and take them.

        With fewer it ends when nobody is at work any more, and takes them if they are as many as a
        round needs.
        """
        flush, buffer = Flush(request, on_row, started=grid.now()), self._settings.buffer
        self._sites_ready.send(flush, self._to_idle(request, grid), grid)
        self._sites_ready.leave_out_old(flush)
        self._sites_ready.listen(flush, grid, lambda: len(self._sites_ready.waiting) >= buffer)
        self._take(flush)
        self._sites_ready.tell_busy(flush, grid)
        return flush.finished({grid.name_of(node) for node in grid.get_node_ids()})

    # --- What a round does ------------------------------------------------------------------

    def _to_idle(self, request: Request, grid: RosterGrid) -> list[Message]:
        """Return the model for all sites that have none, and whose update has been taken."""
        busy, config = self._sites_ready.busy(), ConfigRecord(dict(request.config))
        self._tell(config)
        asked = self._strategy.configure_train(
            request.server_round, self._own(held(request.arrays)), config, grid
        )
        return [
            complete(message, held(request.arrays), request.server_round)
            for message in sorted(asked, key=lambda one: grid.name_of(one.metadata.dst_node_id))
            if grid.name_of(message.metadata.dst_node_id) not in busy
        ]

    def _read(self, request: Request, site: str, reply: Message) -> Ready | SiteRow:
        """Look at an update; it is encoded again when its age is known."""
        found = self._validated(request, site, reply)
        self._encoded.pop(site, None)
        return Ready(found.row, request, found.update) if found.update else found.row

    def _take(self, flush: Flush) -> None:
        """Move the model by the oldest `buffer` of the updates, if they are enough."""
        request, buffer = flush.request, self._settings.buffer
        oldest = [ready.site for ready in self._sites_ready.waiting[:buffer]]
        if len(oldest) < min(buffer, request.min_updates):
            return
        taken = self._sites_ready.take(oldest)
        for ready in taken:
            flush.say(ready.aged(request.server_round))
        before = self._sent(request.arrays)
        mean = np.float32(self._settings.mixing) * self._mean(request.server_round, taken)
        moved = move_by_mean(self._strategy, request.server_round, before, mean, self._parameters)
        flush.outcome.arrays = {**request.arrays, **moved}
        updates = [ready.update for ready in taken if ready.update]
        flush.outcome.train_loss = mean_loss(flush.rows(), updates)

    def _mean(self, server_round: int, taken: Sequence[Ready]) -> npt.NDArray[np.float32]:
        """Return the mean change, float32, of updates each of which counts by its age.

        It is divided by the sum of the weights without the discounts: a round of stale updates
        moves the model less, and does not weigh them against one another only.
        """
        vector, total = np.zeros(self._layout.entries, np.uint32), 0
        for ready in taken:
            assert ready.update is not None, "updates come in the clear"
            counts = discount(ready.staleness(server_round), self._settings.staleness_power)
            vector += self._encode(ready.request, ready.update, discount=counts)
            total += int(ready.update.weight)
        mean: Any = self._layout.mean_of([vector], total)
        return mean  # type: ignore[no-any-return]

    def _tell(self, config: ConfigRecord) -> None:
        """Add what a site must know beside the model."""
