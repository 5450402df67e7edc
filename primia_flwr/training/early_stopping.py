"""When to stop: the same rule within a site's round and over the rounds of the federation."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from primia_flwr.config.checks import check_choice
from primia_flwr.training.evaluate import Evaluation

# monitor: (how to read it, +1 if higher is better and -1 if lower is)
MONITORS: dict[str, tuple[Callable[[Evaluation], float], int]] = {
    "loss": (lambda evaluation: evaluation.loss, -1),
    "mcc": (lambda evaluation: evaluation.mcc, 1),
    "accuracy": (lambda evaluation: evaluation.accuracy, 1),
    "balanced_accuracy": (lambda evaluation: evaluation.balanced_accuracy, 1),
}


def is_better(monitor: str, value: float, than: float | None, min_delta: float = 0.0) -> bool:
    """Tell whether a value improves on another by more than `min_delta`; NaN never does."""
    if math.isnan(value):
        return False
    return than is None or MONITORS[monitor][1] * (value - than) > min_delta


@dataclass
class Patience:
    """Remember the best value of a monitor and count the values since that were no better.

    `patience` 0 never stops and still remembers the best. `best_step` is whatever number the
    caller counts by (epoch, round) at the best value; `bad` counts the values since.
    """

    monitor: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    best_step: int | None = None
    bad: int = 0

    def __post_init__(self) -> None:
        check_choice("monitor", self.monitor, MONITORS)

    def update(self, evaluation: Evaluation, step: int) -> bool:
        """Take in the evaluation at a step and tell whether it is the best so far."""
        value = MONITORS[self.monitor][0](evaluation)
        if is_better(self.monitor, value, self.best, self.min_delta):
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
