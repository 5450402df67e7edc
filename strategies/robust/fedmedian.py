"""The coordinate-wise median of the sites' models (Yin et al. 2018)."""

from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import NoOptions, Rule

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


def _build(options: NoOptions, experiment: Any) -> "Strategy":
    from flwr.serverapp.strategy import FedMedian

    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return FedMedian(**ALL_SELECTED)


RULE = Rule(_build)
