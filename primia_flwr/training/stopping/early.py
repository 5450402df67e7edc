"""When to stop: the same rule within a site's round and over the rounds of the federation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from primia_flwr.tasks.task import Evaluation


@dataclass
class Patience:
    """The best value of a monitor, a metric of the task, and how many values since were no better.

    `patience` 0 never stops and still remembers the best. `best_step` is whatever number the
    caller counts by (epoch, round) at the best value; `bad` counts the values since.
    """

    monitor: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    best_step: int | None = None
    bad: int = 0

    def update(self, evaluation: Evaluation, step: int) -> bool:
        """Take in the evaluation at a step and tell whether it is the best so far."""
        metric = evaluation.task.metric(self.monitor)
        value = evaluation.figures()[metric.name]
        if metric.improves(value, self.best, self.min_delta):
            self.best, self.best_step, self.bad = value, step, 0
            return True
        self.bad += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether `patience` values in a row were no better."""
        return 0 < self.patience <= self.bad

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Patience":
        """Rebuild what `to_dict` wrote."""
        return cls(**values)
