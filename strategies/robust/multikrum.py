"""The mean of the updates that are nearest to their neighbours (Blanchard et al. 2017).

Of one update it is Krum; of all, the weighted mean. What `strategies/robust/krum.py` says of
normalisation buffers holds here too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.rules import Liars, Rule
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class MultiKrum(Liars):
    """`num_selected`: how many updates are averaged, m.

    The guarantee needs n >= 2 f + 3 updates, and m <= n - f - 2.
    """

    num_selected: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("strategy.options.num_selected", self.num_selected, 1, example=2)


def _build(options: MultiKrum, experiment: Any) -> "Strategy":
    from strategies.averaging.nearest import NearestUpdates
    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return NearestUpdates(
        **ALL_SELECTED, num_malicious=options.num_malicious, num_selected=options.num_selected
    )


def _check(options: MultiKrum, experiment: Any) -> None:
    liars, chosen = options.num_malicious, options.num_selected
    sites = experiment.federation.min_sites
    needed = max(2 * liars + 3, chosen + liars + 2) if liars or chosen == 1 else chosen
    if sites < needed:
        raise ConfigError(
            f"strategy.options.num_malicious={liars} and .num_selected={chosen} with "
            f"federation.min_sites={sites}; multikrum needs {needed} updates in every round; set "
            f"federation.min_sites={needed} or more"
        )


RULE = Rule(_build, options=MultiKrum, check=_check)
