"""Cyclic weight transfer: the model goes from site to site, cycle after cycle.

Source: Chang et al. 2018, https://doi.org/10.1093/jamia/ocy017; steps in proportion to the images:
Balachandar et al. 2020, https://doi.org/10.1093/jamia/ocaa017
"""

from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import Need, RelayOrder, Rule

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


def _build(options: RelayOrder, experiment: Any) -> "Strategy":
    """Return what asks for validation; nothing is averaged."""
    from strategies.averaging.weighted_fedavg import ALL_SELECTED, WeightedFedAvg

    return WeightedFedAvg(**ALL_SELECTED)


RULE = Rule(_build, needs=Need.ONE_SITE, options=RelayOrder, check=RelayOrder.check)
