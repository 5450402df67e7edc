"""Adam on the mean update (Reddi et al. 2021)."""

from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import Need, Rule, ServerOptimizer

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


def _build(options: ServerOptimizer, experiment: Any) -> "Strategy":
    from strategies.averaging.server_optimisers import WeightedFedAdam
    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return WeightedFedAdam(**ALL_SELECTED, **options.numbers())


RULE = Rule(_build, needs=Need.MEAN, options=ServerOptimizer)
