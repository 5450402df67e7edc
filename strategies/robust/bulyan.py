"""Multi-Krum's choice, then a trimmed mean of each number (El Mhamdi et al. 2018).

It stands against lies in few numbers too, which a distance over all of them does not see. Where f
sites may lie it needs n >= 4 f + 3 updates. What `strategies/robust/krum.py` says of normalisation
buffers holds here too.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import Liars, Rule, outnumbered

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


def _build(options: Liars, experiment: Any) -> "Strategy":
    from flwr.serverapp import strategy

    from strategies.averaging.nearest import nearest
    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    return strategy.Bulyan(
        **ALL_SELECTED, num_malicious_nodes=options.num_malicious, selection_rule=nearest
    )


RULE = Rule(_build, options=Liars, check=partial(outnumbered, times=4))
