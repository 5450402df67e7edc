"""Steps that are longer where the loss is higher, so that sites fare alike (Li et al. 2020).

With x the model of the round, y_k what site k makes of it, F_k the loss of x at site k, w_k the
site's weight and L a bound of the losses' curvature: D_k = L (x - y_k), and the model becomes
x - sum_k(w_k F_k^q D_k) / sum_k(w_k (q F_k^(q-1) |D_k|^2 + L F_k^q)). With q = 0 that is the
weighted mean of the y_k.

F_k is measured on the site's validation images, where the paper takes the training images.

Source: Li et al. 2020, Fair Resource Allocation in Federated Learning, Algorithm 2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.rules import Rule
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class Fairness:
    """`q`: 0 for the mean, more for more alike losses; `curvature`: L, 0 for 1 / learning rate."""

    q: float = 1.0
    curvature: float = 0.0

    def __post_init__(self) -> None:
        check_range("strategy.options.q", self.q, 0, 100, example=1.0)
        check_range("strategy.options.curvature", self.curvature, 0, example=10.0)


def _build(options: Fairness, experiment: Any) -> "Strategy":
    from strategies.averaging.weighted_fedavg import ALL_SELECTED
    from strategies.averaging.weighted_qfedavg import WeightedQFedAvg

    curvature = options.curvature or 1 / experiment.training.learning_rate
    return WeightedQFedAvg(**ALL_SELECTED, q=options.q, curvature=curvature)


def _check(options: Fairness, experiment: Any) -> None:
    """Refuse 1 / learning rate where a step is not so many gradients: it would stop the model."""
    if options.q == 0 or options.curvature:
        return
    training = experiment.training
    for key, needed in (("optimizer", "sgd"), ("momentum", 0)):
        if getattr(training, key) != needed:
            raise ConfigError(
                f"training.{key}={getattr(training, key)} with strategy.name=qfedavg and "
                f"strategy.options.curvature=0; expected {needed}: 1 / training.learning_rate "
                "bounds the curvature for plain steps only, and others would hardly move the "
                "model; or set strategy.options.curvature, e.g. 1"
            )


RULE = Rule(_build, options=Fairness, check=_check)
