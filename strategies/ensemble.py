"""Each site trains a model of its own; the result is their weighted vote.

Source: Chang et al. 2018, https://doi.org/10.1093/jamia/ocy017; votes by the verdicts of the other
sites: Amir-Khalili et al. 2017, "Scalable and fault
tolerant platform for distributed learning on private medical data"
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_choice
from primia_flwr.config.rules import Need, Rule
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class Vote:
    """How the models are weighted.

    `vote`: alike (`mean`), by the training images of their sites (`size`), or by what the other
    sites find of them (`insulearn`).
    """

    vote: str = "mean"

    def __post_init__(self) -> None:
        check_choice("strategy.options.vote", self.vote, ("mean", "size", "insulearn"))


def _build(options: Vote, experiment: Any) -> "Strategy":
    from strategies.averaging.weighted_fedavg import ALL_SELECTED, WeightedFedAvg

    return WeightedFedAvg(**ALL_SELECTED)


def _check(options: Vote, experiment: Any) -> None:
    if experiment.search.enabled:
        raise ConfigError(
            "strategy.name=ensemble with a search; expected search=none, or a rule that makes one "
            "model, e.g. strategy=fedavg"
        )
    if not experiment.model.sends_all:
        raise ConfigError(
            f"strategy.name=ensemble with model.trainable={experiment.model.trainable} and "
            f"model.shared={experiment.model.shared}; expected all and all: each site has a model "
            "of its own already"
        )
    if experiment.debug.record_received:
        raise ConfigError(
            "debug.record_received=true with strategy.name=ensemble; expected false: what came is "
            "kept where the sites' models become one; record strategy=fedavg aggregation=plain, "
            "whose first round is the same"
        )
    if options.vote == "insulearn" and len(experiment.federation.sites) < 3:
        raise ConfigError(
            f"strategy.options.vote=insulearn with {len(experiment.federation.sites)} sites; "
            "expected three at least, so that two judge each model; set strategy.options.vote=size"
        )


RULE = Rule(_build, needs=Need.OWN_MODEL, options=Vote, check=_check)
