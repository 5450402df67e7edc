"""The mean, of sites that are pulled towards the global model (Li et al. 2020)."""

from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import Need, NoOptions, Rule
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


def _build(options: NoOptions, experiment: Any) -> "Strategy":
    from strategies.averaging.weighted_fedavg import ALL_SELECTED, WeightedFedProx

    return WeightedFedProx(**ALL_SELECTED, proximal_mu=experiment.training.proximal_mu)


def _check(options: NoOptions, experiment: Any) -> None:
    if experiment.training.proximal_mu == 0:
        raise ConfigError(
            f"training.proximal_mu={experiment.training.proximal_mu} with strategy.name=fedprox; "
            "expected a number above 0, e.g. training.proximal_mu=0.01"
        )


RULE = Rule(_build, needs=Need.MEAN, check=_check)
