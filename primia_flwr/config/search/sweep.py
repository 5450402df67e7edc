"""Settings of a search over hyper-parameters: `primia train -m sweep=<choice>`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.plain_yaml import load_mapping
from primia_flwr.config.search.space import Space, parse_space
from primia_flwr.errors import ConfigError
from primia_flwr.storage.reading import read_text, reading

COMMAND_FILE = "command.json"
_SAMPLERS = ("tpe", "random")
_PRUNERS = ("median", "asha", "none")


@dataclass
class SweepConfig:
    """How many trials, how they are drawn, when a bad one is ended; `conf/sweep/` explains.

    `space_file` is a YAML file that holds a space and replaces `space`. `trials` counts those
    that are done already where a search goes on. `resume` is the folder of the search that goes
    on. `space` is read by `primia_flwr.config.search.space.parse_space`.
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
    space_file: str = ""
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range("sweep.trials", self.trials, 1, 100_000, example=20)
        check_choice("sweep.sampler", self.sampler, _SAMPLERS)
        check_range("sweep.random_trials", self.random_trials, 1, 100_000, example=8)
        check_choice("sweep.pruner", self.pruner, _PRUNERS)
        check_range("sweep.prune_after_trials", self.prune_after_trials, 1, 100_000, example=4)
        check_range("sweep.prune_after_rounds", self.prune_after_rounds, 1, 10_000, example=2)
        check_range("sweep.seed", self.seed, 0, 2**32 - 1, example=0)


def searched_space(cfg: SweepConfig) -> Space:
    """Return the space of a search, from its file where one is given.

    Raises
    ------
    ConfigError
        If the file cannot be read, or the space is none.
    """
    if not cfg.space_file:
        return parse_space(cfg.space)
    path = Path(cfg.space_file).expanduser()
    what = f"sweep.space_file={cfg.space_file}"
    expected = "a YAML file: keys of the experiment with {low, high} or {choices}"
    with reading(what, error=ConfigError, expected=expected):
        return parse_space(load_mapping(read_text(path), what="it"))
