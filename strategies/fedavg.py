"""The weighted mean of the sites' models (McMahan et al. 2017)."""

from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import Need, NoOptions, Rule

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


def _build(options: NoOptions, experiment: Any) -> "Strategy":
    from strategies.averaging.weighted_fedavg import ALL_SELECTED, WeightedFedAvg

    return WeightedFedAvg(**ALL_SELECTED)


RULE = Rule(_build, needs=Need.MEAN)
