"""The coordinate-wise median of the sites' models (Yin et al. 2018)."""

import logging
from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import NoOptions, Rule

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy

logger = logging.getLogger(__name__)


def _build(options: NoOptions, experiment: Any) -> "Strategy":
    from flwr.serverapp.strategy import FedMedian

    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    if experiment.federation.min_sites < 3:
        logger.warning(
            "strategy=fedmedian with federation.min_sites=%d: the median of a round with two "
            "sites is their mean, to which one that lies is half; set federation.min_sites=3",
            experiment.federation.min_sites,
        )
    return FedMedian(**ALL_SELECTED)


RULE = Rule(_build)
