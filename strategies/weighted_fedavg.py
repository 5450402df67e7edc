"""Federated averaging in double precision, and Flower's server optimisers on top of it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedProx, FedYogi

from primia_flwr.errors import ProtocolError
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import ARRAYS, CONFIG, LOSS, WEIGHT

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

_LEAST_LOSS = 1e-10  # of which a negative power is taken


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
        weights = [_number(reply, self.weighted_by_key) for reply in valid]
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


class WeightedFedAdagrad(FedAdagrad, WeightedFedAvg):
    """FedAdagrad: Adagrad on the mean update (Reddi et al. 2021)."""


class WeightedFedAvgM(WeightedFedAvg):
    """FedAvgM: momentum on the mean update (Hsu et al. 2019).

    With d the mean update of a round, m becomes beta m + d and the model x becomes x + eta m.
    Unlike Flower's, it keeps m by name, so that a checkpoint can hold it, and moves the model that
    the round began with.
    """

    def __init__(self, *, server_learning_rate: float, server_momentum: float, **asks: Any) -> None:
        super().__init__(**asks)
        self.eta, self.beta = server_learning_rate, server_momentum
        self.m_t: dict[str, npt.NDArray[Any]] | None = None
        self._before: dict[str, npt.NDArray[Any]] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember the model that the round begins with."""
        self._before = values_of(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Move the model; (None, None) if no reply has content."""
        mean, metrics = super().aggregate_train(server_round, replies)
        if mean is None:
            return None, None
        moments, moved = self.m_t or {}, {}
        for name, after in values_of(mean).items():
            before = self._before[name].astype(np.float64)
            moment = self.beta * moments.get(name, 0.0) + (after - before)
            moments[name] = np.asarray(moment, dtype=after.dtype)
            moved[name] = np.asarray(before + self.eta * moment, dtype=after.dtype)
        self.m_t = moments
        return held(moved), metrics


class WeightedQFedAvg(WeightedFedAvg):
    """q-FedAvg: the formula is in `strategies/qfedavg.py`; sums in float64 (Li et al. 2020)."""

    def __init__(self, *, q: float, curvature: float, **asks: Any) -> None:
        super().__init__(**asks)
        self._q, self._curvature = q, curvature
        self._before: dict[str, npt.NDArray[Any]] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember the model that the round begins with."""
        self._before = values_of(arrays)
        return super().configure_train(server_round, arrays, config, grid)

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
        weight, hint = _number(reply, self.weighted_by_key), "; raise data.val_fraction"
        loss = _number(reply, LOSS, hint) + _LEAST_LOSS
        after = values_of(next(iter(reply.content.array_records.values())))
        square = 0.0
        for name, before in self._before.items():
            change = self._curvature * (before.astype(np.float64) - after[name])
            steps[name] += weight * loss**self._q * change
            square += float(np.vdot(change, change))
        q = self._q
        return float(weight * (q * loss ** (q - 1) * square + self._curvature * loss**q))


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


def _number(reply: Message, key: str, hint: str = "") -> float:
    value = next(iter(reply.content.metric_records.values())).get(key)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise ProtocolError(f"a site's {key} is {value!r:.40}; expected one number{hint}")
