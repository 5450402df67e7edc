"""Server optimisers on the mean update: Flower's own, and momentum."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedYogi

from primia_flwr.messages.held import held, values_of
from strategies.averaging.weighted_fedavg import WeightedFedAvg, WeightedStep


# Flower's own, whose `super().aggregate_train` is the mean in float64.
class WeightedFedAdam(FedAdam, WeightedFedAvg):
    """FedAdam: Adam on the mean update (Reddi et al. 2021)."""


class WeightedFedYogi(FedYogi, WeightedFedAvg):
    """FedYogi: Yogi on the mean update (Reddi et al. 2021)."""


class WeightedFedAdagrad(FedAdagrad, WeightedFedAvg):
    """FedAdagrad: Adagrad on the mean update (Reddi et al. 2021)."""


class WeightedFedAvgM(WeightedStep):
    """FedAvgM: momentum on the mean update (Hsu et al. 2019).

    With d the mean update of a round, m becomes beta m + d and the model x becomes x + eta m.
    Unlike Flower's, it keeps m by name, so that a checkpoint can hold it, and moves the model that
    the round began with.
    """

    def __init__(self, *, server_learning_rate: float, server_momentum: float, **asks: Any) -> None:
        super().__init__(**asks)
        self.eta, self.beta = server_learning_rate, server_momentum
        self.m_t: dict[str, npt.NDArray[Any]] | None = None

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
