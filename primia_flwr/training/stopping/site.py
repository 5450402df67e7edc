"""A site that keeps stopping early rests: it evaluates the global model and trains no more.

After `retire_after` rounds in a row in which it stopped early, a site is retired. It trains
again as soon as the global model, as it arrives, is worse on the site's validation images
than the best global model that it has seen (by more than `min_delta`): the others have moved
the model away from its patients. Its count of early stops then starts anew.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from primia_flwr.config.experiment.training import SiteStoppingConfig
from primia_flwr.tasks.task import Evaluation


@dataclass
class SiteStopping:
    """The state that a site keeps between rounds.

    `stopped_rounds`: rounds in a row that ended in an early stop. `best`: the monitor's best
    value over the global models as they arrived. `retired`: whether the site only evaluates.
    """

    stopped_rounds: int = 0
    best: float | None = None
    retired: bool = False

    def should_train(self, cfg: SiteStoppingConfig, incoming: Evaluation | None) -> bool:
        """Decide, before a round, from the global model's score on the site's own images.

        Call it once a round. Without `incoming` (no validation images) a site always trains.
        """
        if not cfg.retire_after or incoming is None:
            return True
        metric = incoming.task.metric(cfg.monitor)
        value = incoming.figures()[metric.name]
        worse = self.best is not None and metric.improves(self.best, value, cfg.min_delta)
        if metric.improves(value, self.best):
            self.best = value
        if self.retired and worse:
            self.retired, self.stopped_rounds = False, 0
        return not self.retired

    def record_round(self, cfg: SiteStoppingConfig, *, stopped_early: bool) -> None:
        """Take in how a round of training ended."""
        self.stopped_rounds = self.stopped_rounds + 1 if stopped_early else 0
        self.retired = 0 < cfg.retire_after <= self.stopped_rounds

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for the site's private state."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SiteStopping":
        """Rebuild what `to_dict` wrote."""
        return cls(**values)
