"""Hydra's part of a search: a sweeper that asks Optuna which run comes next.

The plug-in on PyPI asks for an Optuna before version 3, hence this one. Hydra takes sweepers
from its own name space only, so the class says that it lies there; `register` makes it known.
The launcher of Hydra that runs one job after the other in this process runs the trials.
"""

from __future__ import annotations

import importlib
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import parse, without_sweep
from primia_flwr.config.search.sweep import SweepConfig, searched_space
from primia_flwr.config.typed import quoted
from primia_flwr.errors import ConfigError
from primia_flwr.search.search import Search
from primia_flwr.search.trial import Outcome

_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@dataclass
class Session:
    """What a search and its jobs tell each other: the trial that runs, and what came of all."""

    trial: optuna.Trial | None = None
    summary: dict[str, Any] | None = None


SESSION: ContextVar[Session | None] = ContextVar("SESSION", default=None)


class OptunaSweeper(Sweeper):
    """Runs the trials of a study as jobs of Hydra."""

    __module__ = "hydra_plugins.primia_flwr"

    def __init__(self, max_batch_size: int | None = None, params: Any = None) -> None:
        if max_batch_size is not None or params:
            raise ConfigError(
                "hydra.sweeper.max_batch_size and hydra.sweeper.params are not used by a search; "
                "expected neither; write what may vary into sweep.space"
            )
        self._launcher: Launcher | None = None
        self._config: DictConfig | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take Hydra's configuration and its launcher."""
        if config.hydra.launcher._target_ != _LAUNCHER:
            raise ConfigError(
                f"hydra.launcher={config.hydra.launcher._target_}; expected Hydra's basic "
                "launcher: a search runs one trial after the other and follows each"
            )
        self._config = config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search.

        Raises
        ------
        PrimiaError
            If the search cannot begin or go on.
        """
        assert self._config is not None
        words = list(arguments)
        cfg = parse(SweepConfig, self._config.sweep)
        base = parse(Experiment, without_sweep(self._config))
        folder = Path(str(self._config.hydra.sweep.dir))
        search = Search(cfg, searched_space(cfg), base, folder, words)
        session = SESSION.get() or Session()

        def run_trial(trial: optuna.Trial, values: dict[str, Any]) -> Outcome:
            session.trial = trial
            try:
                return self._launch(trial.number, [*words, *as_overrides(values)])
            finally:
                session.trial = None

        session.summary = search.run(run_trial)
        return session.summary

    def _launch(self, number: int, words: list[str]) -> Outcome:
        assert self._launcher is not None
        (job,) = self._launcher.launch([words], initial_job_idx=number)
        result = job.return_value
        assert isinstance(result, Outcome)
        return result


def register() -> None:
    """Make the sweeper known to Hydra, under the name that `conf/hydra/sweeper` gives."""
    Plugins.instance().register(OptunaSweeper)
    package, _, name = OptunaSweeper.__module__.partition(".")
    try:
        parent = importlib.import_module(package)
    except ModuleNotFoundError:  # no plug-in of Hydra is installed
        parent = sys.modules[package] = ModuleType(package)
    module = sys.modules[OptunaSweeper.__module__] = ModuleType(OptunaSweeper.__module__)
    setattr(module, OptunaSweeper.__name__, OptunaSweeper)
    setattr(parent, name, module)


def as_overrides(values: dict[str, Any]) -> list[str]:
    """Return values of the experiment as overrides that Hydra reads back unchanged.

    With `++`, because the YAML of a rule need not name all its options.
    """
    return [f"++{name}={_literal(value)}" for name, value in values.items()]


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(_literal(item) for item in value)}]"
    if isinstance(value, str):
        return quoted(value)
    return repr(value)
