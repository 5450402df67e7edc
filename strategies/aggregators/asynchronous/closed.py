"""Asynchronous rounds of sites that report nothing but their updates: each has noise of its own."""

from flwr.app import ConfigRecord

from strategies.aggregators.asynchronous.aggregator import AsynchronousAggregator
from strategies.aggregators.silent_sites import SilentSites


class ClosedAsynchronous(SilentSites, AsynchronousAggregator):
    """Averages noisy updates that are ready; with each model go the heads of privacy ledgers."""

    def _tell(self, config: ConfigRecord) -> None:
        self._tell_heads(config)
