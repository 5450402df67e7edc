"""The aggregator of buffered rounds: who is ready gives its update into one secure sum.

A site that is idle is sent the newest model, trains, keeps its update, and says that it is ready.
Where enough are, the coordinator states a *buffer*: whose updates, of which rounds' models, and
what each counts. These sites mask with each other, in an instance of the protocol of their own,
and the round's model is made of the sum: x + mixing * sum(w (1 + s)^-a d) / sum(w), as in
`asynchronous.aggregator`, and with the same updates the same to the last bit.

Sources: Nguyen et al. 2022, FedBuff, https://arxiv.org/abs/2106.06639; So et al. 2021,
https://arxiv.org/abs/2110.02177. What sites insist on is in docs/strategies/buffered.md.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages import secure as wire
from primia_flwr.messages.buffered import QUERY, Buffer, Waiting
from primia_flwr.messages.held import held
from primia_flwr.messages.keys import ARRAYS, CONFIG, WEIGHT
from primia_flwr.runs.history import OK, SiteRow
from strategies.aggregators.aggregator import OnRow, Outcome, Request
from strategies.aggregators.asynchronous.flush import Flush
from strategies.aggregators.asynchronous.ready import Ready, ReadySites
from strategies.aggregators.buffered.choice import chosen
from strategies.aggregators.exchange import complete
from strategies.aggregators.reply_validator import checked
from strategies.aggregators.secure.aggregator import SecureAggregator
from strategies.aggregators.secure.secagg_round import Summed
from strategies.aggregators.secure.sums import Asked
from strategies.aggregators.server_step import move_by_mean


class BufferedAggregator(SecureAggregator):
    """Learns of every round the sum over the sites whose updates are ready.

    Parameters
    ----------
    *args, **described
        As `SecureAggregator`.
    """

    def __init__(self, *args: Any, **described: Any) -> None:
        super().__init__(*args, **described)
        self._settings = self._experiment.aggregation
        self._sites_ready = ReadySites(self._settings, _read)
        self._images = 0.0  # of the last sum
        self._told: dict[int, str] = {}  # what went to the sites in a round, by its number

    def train(self, request: Request, grid: RosterGrid, on_row: OnRow) -> Outcome:
        """Send the model to who is idle; add up as soon as enough updates make a sum.

        With fewer it ends when nobody is at work any more, and adds them up if they are as many as
        a round needs. A site whose update came to nothing is sent the model again.
        """
        flush, self._images = Flush(request, on_row, started=grid.now()), 0.0
        self._let_go(request.server_round)
        self._sites_ready.send(flush, self._to_idle(request, grid), grid)
        self._sites_ready.leave_out_old(flush)
        while True:
            self._sites_ready.listen(flush, grid, lambda: bool(self._chosen(request, grid)))
            sites = self._chosen(request, grid)
            if not sites or not self._add_up(flush, sites, grid):
                break
        self._sites_ready.tell_busy(flush, grid)
        outcome = flush.finished({grid.name_of(node) for node in grid.get_node_ids()})
        outcome.images = self._images
        return outcome

    # --- The models that go out -----------------------------------------------------------------

    def _to_idle(self, request: Request, grid: RosterGrid) -> list[Message]:
        """Return the model for all sites that have none, and whose update has been taken."""
        number, busy = request.server_round, self._sites_ready.busy()
        messages = self._strategy.configure_train(
            number, self._own(request.arrays), ConfigRecord(dict(request.config)), grid
        )
        outgoing = [complete(message, held(request.arrays), number) for message in messages]
        self._told[number] = self._told_in(outgoing[0].content)
        idle = [m for m in outgoing if grid.name_of(m.metadata.dst_node_id) not in busy]
        return sorted(idle, key=lambda message: grid.name_of(message.metadata.dst_node_id))

    def _told_in(self, content: RecordDict) -> str:
        """Return the digest of what goes to each site alike, by which it knows its own."""
        told = RecordDict({name: content[name] for name in (ARRAYS, CONFIG)})
        base = wire.model_digest(content.array_records[ARRAYS])
        layout, terms = self._train_layout, self._sums.terms
        return wire.transcript_hash(base, told, layout, MessageType.TRAIN, terms=terms).hex()

    def _let_go(self, server_round: int) -> None:
        """Have sites trained anew whose updates are of a model that too few others have had.

        Without `mixed_rounds` they would wait for a sum that never comes: a site that should be in
        it was given up, and has been sent a newer model since.
        """
        if self._settings.mixed_rounds:
            return
        for since, sites in self._sites_ready.by_round().items():
            if since == server_round:
                continue  # who is sent the model now may join them
            whole = set(self._sums.safe(sites))
            torn = set(sites) - (whole if len(whole) >= self._settings.buffer else set())
            self._sites_ready.take(torn)

    # --- The sums -------------------------------------------------------------------------------

    def _chosen(self, request: Request, grid: RosterGrid) -> Collection[str]:
        """Return the sites of the next sum, if it can be given now."""
        buffer = self._settings.buffer
        if not self._sites_ready.at_work:
            buffer = min(buffer, max(request.min_updates, self._sums.floor.min_survivors))
        there = {grid.name_of(node) for node in grid.get_node_ids()}
        waiting = [ready for ready in self._sites_ready.waiting if ready.site in there]
        mixed = self._settings.mixed_rounds
        return chosen(waiting, buffer, mixed=mixed, safe=self._sums.safe)

    def _add_up(self, flush: Flush, sites: Collection[str], grid: RosterGrid) -> bool:
        """Add up the updates of some sites; return whether to go on without those that failed."""
        number, waiting = flush.request.server_round, self._sites_ready.waiting
        parts = {
            ready.site: Waiting(ready.since, self._told[ready.since])
            for ready in waiting
            if ready.site in sites
        }
        buffer = Buffer(number, parts, self._settings.staleness_power)
        ages = {site: number - part.since for site, part in parts.items()}
        asked = Asked(
            number, QUERY, buffer.content(), self._train_layout, flush.request.timeout,
            flush.request.min_updates, only=tuple(buffer.sites), base=buffer.digest, ages=ages,
        )  # fmt: skip
        found = self._sums.learn(asked, grid, _nobody)
        flush.outcome.bytes_up += found.bytes_up
        flush.outcome.bytes_down += found.bytes_down
        if found.mean is not None:
            self._take(flush, found, buffer)
            return False
        return self._without_failed(flush, found)

    def _take(self, flush: Flush, found: Summed, buffer: Buffer) -> None:
        """Move the model by what the sum gives; whoever dropped out of it is sent the next."""
        request, sums = flush.request, found.sums
        for ready in self._sites_ready.take(buffer.sites):
            if ready.site in found.survivors:
                row = replace(found.rows[ready.site], status=OK)
                flush.say(replace(row, staleness=ready.staleness(request.server_round)))
            else:
                flush.say(found.rows[ready.site])
        before = {name: request.arrays[name] for name in self._sent}
        mean = np.float32(self._settings.mixing) * found.mean
        moved = move_by_mean(self._strategy, request.server_round, before, mean, self._parameters)
        flush.outcome.arrays = {**request.arrays, **moved}
        flush.outcome.train_loss = sums["weighted-train-loss"][0] / sums[WEIGHT][0]
        self._images = sums["images"][0]

    def _without_failed(self, flush: Flush, found: Summed) -> bool:
        """Book a sum that did not come about; return whether others may make one without some."""
        flush.outcome.declined, flush.outcome.wait_for = found.declined, found.wait_for
        failed = {name for name, row in found.rows.items() if row.reason != found.reason}
        for name in found.rows:
            flush.say(found.rows[name])
        self._sites_ready.take(failed or found.rows)
        return bool(failed) and not found.declined


def _read(request: Request, site: str, reply: Message) -> Ready | SiteRow:
    """Take note that a site is ready: its reply says no more."""
    row = checked(request.server_round, site, reply, lambda: None)
    return row or Ready(SiteRow(request.server_round, site, OK), request)


def _nobody(_: SiteRow) -> None: ...
