"""The plain exchange with the arithmetic of the secure one: a control, not a protection.

Every update reaches the coordinator in the clear, which puts it on the fixed-point scale of
secure aggregation and adds up as there. A secure run with the same seed, sites and weights then
ends in the same model, bit for bit: what differs between a secure run and an ordinary plain one
is this rounding and nothing else.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.serverapp.strategy import Strategy

from primia_flwr.federation import secure_records as wire
from primia_flwr.federation.checkpoint import ArrayMap
from primia_flwr.secagg.payload import WEIGHT, Layout
from strategies.exchange import Request
from strategies.plain import PlainExchange
from strategies.screening import Update
from strategies.server_step import move_by_mean


class FixedPointControl(PlainExchange):
    """Averages updates as integers, as secure aggregation does.

    Parameters
    ----------
    strategy, **described
        As `PlainExchange`.
    layout : Layout
        That of a secure run of the same experiment.
    """

    def __init__(self, strategy: Strategy, *args: Any, layout: Layout, **described: Any) -> None:
        super().__init__(strategy, *args, **described)
        self._layout = layout

    def _aggregate(self, request: Request, updates: Sequence[Update]) -> ArrayMap:
        layout, model = self._layout, request.arrays
        total = np.zeros(layout.entries, np.uint32)
        for update in updates:
            change = wire.difference(update.arrays, model)
            total += layout.encode(change, {WEIGHT: (int(update.weight),)})[0]
        mean = layout.mean_of([total], sum(update.weight for update in updates))
        return move_by_mean(self._strategy, request.server_round, model, mean, self._parameters)
