"""The learning rate as a pure function of the global step, so that a new round does not reset it.

Each curve maps the progress p in [0, 1] after the warm-up to a rate between the highest
(p = 0) and the lowest (p = 1).
"""

import math
from collections.abc import Callable

from primia_flwr.config.experiment.training import TrainingConfig
from primia_flwr.training.plan import LocalPlan

# The rate at which the one-cycle schedule begins, as a share of the highest.
_ONE_CYCLE_START = 1 / 25


def _constant(progress: float, high: float, low: float) -> float:
    """Stay at the highest rate."""
    return high


def _log_linear(progress: float, high: float, low: float) -> float:
    """Follow a straight line of the rate's logarithm: high^(1-p) low^p."""
    return math.exp((1 - progress) * math.log(high) + progress * math.log(low))


def _log_cosine(progress: float, high: float, low: float) -> float:
    """Follow a half cosine of the rate's logarithm."""
    return _log_linear((1 - math.cos(math.pi * progress)) / 2, high, low)


def _cosine(progress: float, high: float, low: float) -> float:
    """Follow a half cosine of the rate: low + (high - low) (1 + cos(pi p)) / 2."""
    return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2


CURVES: dict[str, Callable[[float, float, float], float]] = {
    "constant": _constant,
    "log_linear": _log_linear,
    "log_cosine": _log_cosine,
    "one_cycle": _cosine,
    "warm_restarts": _cosine,
}


def learning_rate(cfg: TrainingConfig, step: int, total_steps: int) -> float:
    """Return the rate of a step.

    Parameters
    ----------
    cfg : TrainingConfig
        Schedule, highest and lowest rate, warm-up fraction, cycles.
    step : int
        Steps taken before this one over all rounds; from `total_steps` on the last rate stays.
    total_steps : int
        Steps of all rounds together.

    Returns
    -------
    float
        At step `warmup * total_steps` the highest rate; at the last step the lowest (or still
        the highest, if constant).
    """
    high, low = cfg.learning_rate, cfg.min_learning_rate
    warmup_steps = math.floor(cfg.warmup * total_steps)
    if step < warmup_steps:
        if cfg.schedule == "one_cycle":
            return _cosine(1 - step / warmup_steps, high, high * _ONE_CYCLE_START)
        return high * (step + 1) / (warmup_steps + 1)
    remaining = total_steps - 1 - warmup_steps
    progress = min(1.0, (step - warmup_steps) / remaining) if remaining > 0 else 0.0
    if cfg.schedule == "warm_restarts" and progress < 1:
        progress = cfg.cycles * progress % 1
    return CURVES[cfg.schedule](progress, high, low)


def sum_of_rates(cfg: TrainingConfig, plan: LocalPlan, batches: int) -> float:
    """Return the sum of the rates of the first steps of a round, one a batch."""
    steps = range(plan.start_step, plan.start_step + batches)
    return sum(learning_rate(cfg, step, plan.total_steps) for step in steps)
