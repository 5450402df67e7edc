"""q-FedAvg: a site counts for more the higher its loss is."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord

from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import LOSS
from strategies.averaging.weighted_fedavg import WeightedStep, number_in

_LEAST_LOSS = 1e-10  # of which a negative power is taken


class WeightedQFedAvg(WeightedStep):
    """q-FedAvg: the formula is in `strategies/qfedavg.py`; sums in float64 (Li et al. 2020)."""

    def __init__(self, *, q: float, curvature: float, **asks: Any) -> None:
        super().__init__(**asks)
        self._q, self._curvature = q, curvature

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Move the model; (None, None) if no reply has content."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        steps = {name: np.zeros(array.shape) for name, array in self._before.items()}
        scale = 0.0
        for reply in valid:
            scale += self._add_step(reply, steps)
        moved = {
            name: np.asarray(array - steps[name] / scale, dtype=array.dtype)
            for name, array in self._before.items()
        }
        metrics = self.train_metrics_aggr_fn([r.content for r in valid], self.weighted_by_key)
        return held(moved), metrics

    def _add_step(self, reply: Message, steps: dict[str, npt.NDArray[np.float64]]) -> float:
        """Add w F^q D to the steps, and return w h."""
        weight, hint = number_in(reply, self.weighted_by_key), "; raise data.val_fraction"
        loss = number_in(reply, LOSS, hint) + _LEAST_LOSS
        after = values_of(next(iter(reply.content.array_records.values())))
        square = 0.0
        for name, before in self._before.items():
            change = self._curvature * (before.astype(np.float64) - after[name])
            steps[name] += weight * loss**self._q * change
            square += float(np.vdot(change, change))
        q = self._q
        return float(weight * (q * loss ** (q - 1) * square + self._curvature * loss**q))
