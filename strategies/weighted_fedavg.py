"""Federated averaging in double precision, and Flower's server optimisers on top of it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, FedYogi

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import held
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
        weights = [_weight(reply, self.weighted_by_key) for reply in valid]
        mean = {
            name: weighted_mean([record[name].numpy() for record in records], weights)
            for name in records[0]
        }
        metrics = self.train_metrics_aggr_fn([r.content for r in valid], self.weighted_by_key)
        return held(mean), metrics


# Flower's own, whose `super().aggregate_train` is now the mean above.
class WeightedFedProx(FedProx, WeightedFedAvg):
    """FedProx: the sites add a proximal term, the server averages (Li et al. 2020)."""


class WeightedFedAdam(FedAdam, WeightedFedAvg):
    """FedAdam: Adam on the mean update (Reddi et al. 2021)."""


class WeightedFedYogi(FedYogi, WeightedFedAvg):
    """FedYogi: Yogi on the mean update (Reddi et al. 2021)."""


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


def _weight(reply: Message, key: str) -> float:
    value = next(iter(reply.content.metric_records.values()))[key]
    if isinstance(value, list):
        raise ProtocolError(f"metric {key} is a list; expected one number")
    return float(value)
