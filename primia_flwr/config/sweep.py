"""Settings of a search over hyper-parameters: `primia train -m sweep=<choice>`."""

from dataclasses import dataclass, field
from typing import Any

from primia_flwr.config.checks import check_choice, check_range

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "asha", "none")


@dataclass
class SweepConfig:
    """How many trials, how they are drawn, when a bad one is ended; `conf/sweep/` explains.

    `trials` counts those that are done already where a search goes on. `resume` is the folder of
    the search that goes on. `space` is read by `primia_flwr.config.space.parse_space`.
    """

    trials: int = 20
    sampler: str = "tpe"
    random_trials: int = 8
    pruner: str = "median"
    prune_after_trials: int = 4
    prune_after_rounds: int = 2
    default_first: bool = True
    seed: int = 0
    resume: str = ""
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range("sweep.trials", self.trials, 1, 100_000, example=20)
        check_choice("sweep.sampler", self.sampler, SAMPLERS)
        check_range("sweep.random_trials", self.random_trials, 1, 100_000, example=8)
        check_choice("sweep.pruner", self.pruner, PRUNERS)
        check_range("sweep.prune_after_trials", self.prune_after_trials, 1, 100_000, example=4)
        check_range("sweep.prune_after_rounds", self.prune_after_rounds, 1, 10_000, example=2)
        check_range("sweep.seed", self.seed, 0, 2**32 - 1, example=0)
