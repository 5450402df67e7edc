"""The coordinate-wise trimmed mean of the sites' models (Yin et al. 2018)."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.rules import Rule

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrimmedMean:
    """`trim_fraction`: share of the sites that is cut off at each end, below 0.5."""

    trim_fraction: float = 0.2

    def __post_init__(self) -> None:
        key = "strategy.options.trim_fraction"
        check_range(key, self.trim_fraction, 0, 0.5, example=0.2, open_high=True)


def _build(options: TrimmedMean, experiment: Any) -> "Strategy":
    from flwr.serverapp.strategy import FedTrimmedAvg

    from strategies.averaging.weighted_fedavg import ALL_SELECTED

    fewest = experiment.federation.min_sites
    if int(options.trim_fraction * fewest) == 0:
        logger.warning(
            "strategy.options.trim_fraction=%s cuts no one off among federation.min_sites=%d: "
            "fedtrimmedavg is the plain unweighted mean of a round with so few",
            options.trim_fraction,
            fewest,
        )
    return FedTrimmedAvg(**ALL_SELECTED, beta=options.trim_fraction)


RULE = Rule(_build, options=TrimmedMean)
