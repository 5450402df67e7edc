"""Compose and check every YAML file of `conf/`: `python -m primia_flwr.cli.verify_conf`.

Each file in a group is composed as that group's choice, each file in `commands/` as the entry of
its command, and the result goes through its dataclass, so a typo in a rarely used choice is found
before a user finds it.
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from primia_flwr.cli.main import COMMANDS
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, without_sweep
from primia_flwr.config.root import app_root
from primia_flwr.config.rows import RULES
from primia_flwr.config.rules import Need
from primia_flwr.config.search.space import parse_space
from primia_flwr.config.search.sweep import SweepConfig
from primia_flwr.errors import ConfigError

_COMPANIONS = {"aggregation=relay": ["strategy=cyclic"]}  # without which a choice is refused


def _choices() -> Iterator[tuple[Path, list[str]]]:
    """Yield every YAML file in a group of `conf/` with the overrides that select it."""
    for path in sorted((app_root() / "conf").glob("*/*.yaml")):
        chosen = [f"{path.parent.name}={path.stem}"]
        yield path, [*chosen, *_COMPANIONS.get(chosen[0], []), *_of_rule(path)]


def _of_rule(path: Path) -> list[str]:
    """Return the aggregation that a rule needs."""
    each = path.parent.name == "strategy" and RULES[path.stem].needs is Need.EACH_UPDATE
    return ["aggregation=plain"] if each else []


def verify() -> list[str]:
    """Return one sentence for each file that does not compose or validate."""
    problems = []
    for path, overrides in _choices():
        try:
            cfg = compose("config", overrides)
            if "sweep" in cfg:
                _verify_sweep(path.stem, cfg)
            parse(Experiment, without_sweep(cfg))
        except ConfigError as error:
            problems.append(f"{path}: {error}")
    return problems + _verify_commands()


def _verify_sweep(name: str, cfg: DictConfig) -> None:
    """Check a search; `default` is the only one whose space is left to the others."""
    search = parse(SweepConfig, cfg.sweep)
    if name != "default":
        parse_space(search.space)


def _verify_commands() -> list[str]:
    problems = []
    for module_name, _ in COMMANDS.values():
        module = importlib.import_module(f"primia_flwr.cli.{module_name}")
        command = module.COMMAND
        try:
            command.configured()
        except ConfigError as error:
            problems.append(f"conf/{command.config_name}.yaml: {error}")
    return problems


def main() -> int:
    """Print the problems; exit code 1 if there are any."""
    problems = verify()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"conf/: {len(list(_choices()))} choices checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
