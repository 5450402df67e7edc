"""Momentum on the mean update (Hsu et al. 2019)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.rules import Need, Rule

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class Momentum:
    """The step, and the share of the last step that is taken again, below 1."""

    server_learning_rate: float = 1.0
    server_momentum: float = 0.9

    def __post_init__(self) -> None:
        key = "strategy.options.server_learning_rate"
        check_range(key, self.server_learning_rate, 0, example=1.0, open_low=True)
        key = "strategy.options.server_momentum"
        check_range(key, self.server_momentum, 0, 1, example=0.9, open_high=True)


def _build(options: Momentum, experiment: Any) -> "Strategy":
    from strategies.averaging.server_optimisers import WeightedFedAvgM
    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return WeightedFedAvgM(
        **ALL_SELECTED,
        server_learning_rate=options.server_learning_rate,
        server_momentum=options.server_momentum,
    )


RULE = Rule(_build, needs=Need.MEAN, options=Momentum)
