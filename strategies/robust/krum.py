"""The update that is nearest to its neighbours (Blanchard et al. 2017).

It takes over one site's parameters unchanged and discards the others'. Normalisation buffers are
not chosen with them: as with every rule they are the weighted mean of all sites' that passed the
validation of replies. Krum, the median and the trimmed mean therefore protect the parameters only;
where sites may lie, use `model.norm=group` or `none`, which have no such buffers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.rules import Rule
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class Krum:
    """`num_malicious`: how many sites may lie, f; the guarantee needs n >= 2 f + 3 updates."""

    num_malicious: int = 0

    def __post_init__(self) -> None:
        check_range("strategy.options.num_malicious", self.num_malicious, 0, example=1)


def _build(options: Krum, experiment: Any) -> "Strategy":
    from flwr.serverapp import strategy

    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return strategy.Krum(**ALL_SELECTED, num_malicious_nodes=options.num_malicious)


def _check(options: Krum, experiment: Any) -> None:
    liars, sites = options.num_malicious, experiment.federation.min_sites
    needed = 2 * liars + 3
    if liars > 0 and sites < needed:
        raise ConfigError(
            f"strategy.options.num_malicious={liars} with federation.min_sites={sites}; krum needs "
            f"2*{liars}+3 updates in every round; set federation.min_sites={needed} or more"
        )


RULE = Rule(_build, options=Krum, check=_check)
