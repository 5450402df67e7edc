"""Adagrad on the mean update (Reddi et al. 2021)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.rules import Need, Rule

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class Adagrad:
    """The step, and the floor of what it is divided by."""

    server_learning_rate: float = 0.1
    tau: float = 1e-3

    def __post_init__(self) -> None:
        for name, example in (("server_learning_rate", 0.1), ("tau", 1e-3)):
            key = f"strategy.options.{name}"
            check_range(key, getattr(self, name), 0, example=example, open_low=True)


def _build(options: Adagrad, experiment: Any) -> "Strategy":
    from strategies.averaging.server_optimisers import WeightedFedAdagrad
    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return WeightedFedAdagrad(**ALL_SELECTED, eta=options.server_learning_rate, tau=options.tau)


RULE = Rule(_build, needs=Need.MEAN, options=Adagrad)
