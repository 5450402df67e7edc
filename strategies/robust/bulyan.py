"""Multi-Krum's choice, then a trimmed mean of each number (El Mhamdi et al. 2018).

It stands against lies in few numbers too, which a distance over all of them does not see. What
`strategies/robust/krum.py` says of normalisation buffers holds here too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.rules import Rule
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class Bulyan:
    """`num_malicious`: how many sites may lie, f; it needs n >= 4 f + 3 updates."""

    num_malicious: int = 0

    def __post_init__(self) -> None:
        check_range("strategy.options.num_malicious", self.num_malicious, 0, example=1)


def _build(options: Bulyan, experiment: Any) -> "Strategy":
    from flwr.serverapp import strategy

    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return strategy.Bulyan(**ALL_SELECTED, num_malicious_nodes=options.num_malicious)


def _check(options: Bulyan, experiment: Any) -> None:
    liars, sites = options.num_malicious, experiment.federation.min_sites
    needed = 4 * liars + 3
    if liars > 0 and sites < needed:
        raise ConfigError(
            f"strategy.options.num_malicious={liars} with federation.min_sites={sites}; bulyan "
            f"needs 4*{liars}+3 updates in every round; set federation.min_sites={needed} or more"
        )


RULE = Rule(_build, options=Bulyan, check=_check)
