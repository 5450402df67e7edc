"""The plain aggregator with the arithmetic of the secure one: what a plain mean is computed in.

Every update reaches the coordinator in the clear, which puts it on the fixed-point scale of
secure aggregation and adds up as there. So protection costs no result: a secure run with the same
seed, sites and weights ends in the same model, bit for bit. And since integers add up alike in
every order, so does a plain run, whoever answers first. See docs/adr/0012.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp.strategy import Strategy

from primia_flwr.config.rules import Need
from primia_flwr.errors import ProtocolError
from primia_flwr.messages import secure as wire
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.secagg.payload.fixed_point import Overflow
from primia_flwr.secagg.payload.layout import WEIGHT, Layout
from primia_flwr.secagg.payload.masks import Vector
from strategies.aggregators.aggregator import Request
from strategies.aggregators.plain import PlainAggregator
from strategies.aggregators.reply_validator import Update, ValidatedReply, rejected_row
from strategies.aggregators.server_step import check_needs, move_by_mean


class FixedPointAggregator(PlainAggregator):
    """Averages updates as integers, as secure aggregation does.

    Parameters
    ----------
    strategy, **described
        As `PlainAggregator`.
    needs : Need
        What the rule declares; anything but the mean is a `ConfigError`.
    layout : Layout
        That of a secure run of the same experiment.
    overflow : {"decline", "clip"}
        What becomes of an update with an entry beyond the layout's `clip`: it is left out of the
        round, with the reason, or clipped.
    """

    def __init__(
        self,
        strategy: Strategy,
        *args: Any,
        needs: Need,
        layout: Layout,
        overflow: Overflow = "decline",
        **described: Any,
    ) -> None:
        check_needs(needs)
        super().__init__(strategy, *args, **described)
        self._layout, self._overflow = layout, overflow
        self._encoded: dict[str, Vector] = {}

    def _validated(self, request: Request, site: str, reply: Message) -> ValidatedReply:
        found = super()._validated(request, site, reply)
        if found.update is None:
            return found
        try:
            self._encoded[site] = self._encode(request, found.update)
        except ProtocolError as error:
            hint = " (aggregation.clip, .max_weight; or aggregation.float_mean=true)"
            return ValidatedReply(rejected_row(request.server_round, site, error, hint))
        return found

    def _encode(self, request: Request, update: Update, *, discount: float = 1.0) -> Vector:
        """Return an update on the fixed-point scale; it counts `discount` times."""
        weight = update.weight
        if weight != int(weight):
            raise ProtocolError(f"{WEIGHT}={weight:g}; expected a whole number")
        change = update.vector
        if change is None:
            change = wire.difference(update.arrays, self._sent(request.arrays))
        values = {WEIGHT: (int(weight),)}
        return self._layout.encode(change, values, overflow=self._overflow, discount=discount)[0]

    def _aggregate(self, request: Request, updates: Sequence[Update]) -> ArrayMap:
        total = np.zeros(self._layout.entries, np.uint32)
        for update in updates:
            total += self._encoded.pop(update.site)
        self._encoded.clear()
        mean: Any = self._layout.mean_of([total], sum(int(update.weight) for update in updates))
        mean = self._sent_vector.whole(mean, request.server_round)
        before = self._sent(request.arrays)
        return move_by_mean(self._strategy, request.server_round, before, mean, self._parameters)
