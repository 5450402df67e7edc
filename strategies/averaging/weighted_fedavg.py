"""Federated averaging in double precision, and what every rule asks Flower for."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedProx

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import ARRAYS, CONFIG, WEIGHT

# All nodes that the round has selected are asked, so that sampling never waits: who takes part
# is decided before, by the roster.
ALL_SELECTED: dict[str, Any] = {
    "fraction_train": 1.0,
    "fraction_evaluate": 1.0,
    "min_train_nodes": 1,
    "min_evaluate_nodes": 1,
    "min_available_nodes": 1,
    "weighted_by_key": WEIGHT,
    "arrayrecord_key": ARRAYS,
    "configrecord_key": CONFIG,
}


class WeightedFedAvg(FedAvg):
    """Flower's FedAvg with sums in float64 and results in the arrays' own dtype.

    The mean is sum(w_k x_k) / sum(w_k). What w_k is (images, batches or one) is decided where
    the images are: each reply brings it as the metric `weight`. The result depends on the order
    of the replies only in the last bits of the float64 sum; callers sort them by site.

    Source: McMahan et al. 2017, https://arxiv.org/abs/1602.05629
    """

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the replies' arrays; (None, None) if no reply has content."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        records = [next(iter(reply.content.array_records.values())) for reply in valid]
        weights = [number_in(reply, self.weighted_by_key) for reply in valid]
        mean = {
            name: weighted_mean([record[name].numpy() for record in records], weights)
            for name in records[0]
        }
        metrics = self.train_metrics_aggr_fn([r.content for r in valid], self.weighted_by_key)
        return held(mean), metrics


class WeightedStep(WeightedFedAvg):
    """A rule that moves the model that a round begins with, `_before`, by name."""

    def __init__(self, **asks: Any) -> None:
        super().__init__(**asks)
        self._before: dict[str, npt.NDArray[Any]] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember the model that the round begins with."""
        self._before = values_of(arrays)
        return super().configure_train(server_round, arrays, config, grid)


# Flower's own, whose `super().aggregate_train` is now the mean above.
class WeightedFedProx(FedProx, WeightedFedAvg):
    """FedProx: the sites add a proximal term, the server averages (Li et al. 2020)."""


def weighted_mean(
    arrays: Sequence[npt.NDArray[np.floating]], weights: Sequence[float]
) -> npt.NDArray[np.floating]:
    """Return sum(w_k x_k) / sum(w_k), computed in float64, in the arrays' dtype and shape.

    Parameters
    ----------
    arrays : sequence of arrays
        All of one shape and one floating dtype.
    weights : sequence of float
        Positive and finite, one for each array.
    """
    total = np.zeros(arrays[0].shape, dtype=np.float64)
    for array, weight in zip(arrays, weights, strict=True):
        total += np.multiply(array, weight, dtype=np.float64)
    total /= sum(weights)
    return np.asarray(total, dtype=arrays[0].dtype)


def number_in(reply: Message, key: str, hint: str = "") -> float:
    """Return a metric of a site's reply.

    Raises
    ------
    ProtocolError
        If it is no finite number; the sentence ends with `hint`.
    """
    value = next(iter(reply.content.metric_records.values())).get(key)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise ProtocolError(f"a site's {key} is {value!r:.40}; expected one number{hint}")
