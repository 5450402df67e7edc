"""`primia train -m`: Hydra's own sweep over lists, or a search; one line of JSON at the end."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from primia_flwr.cli.command import mistake
from primia_flwr.config import renamed
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import compose, parse, with_search_path, without_sweep
from primia_flwr.config.parsing import explain
from primia_flwr.config.root import app_root
from primia_flwr.errors import ConfigError, PrimiaError
from primia_flwr.pipeline.needed import check_extras, check_new_folder

_Job = Callable[[DictConfig, Path], dict[str, Any]]


def run_multirun(overrides: Sequence[str], job: _Job) -> dict[str, Any]:
    """Sweep over the values that the overrides list, one job after the other.

    Returns
    -------
    dict
        `runs`: what each job returned, with its overrides; `ok`: whether all succeeded.

    Raises
    ------
    PrimiaError
        If the sweep cannot start. A job that fails is one of the results, with its reason.
    """
    results: list[dict[str, Any]] = []

    def task(cfg: DictConfig) -> None:
        runtime = HydraConfig.get()
        result: dict[str, Any] = {"overrides": list(runtime.overrides.task)}
        try:
            result |= job(cfg, Path(runtime.runtime.output_dir))
        except PrimiaError as error:
            result |= {"ok": False, "error": str(error)}
            mistake(error)
        results.append(result)

    check_words(overrides)
    check_folder(overrides)
    enter_hydra(overrides, task)
    return {"runs": results, "ok": all(result.get("ok", True) for result in results)}


def check_folder(overrides: Sequence[str]) -> None:
    """Refuse a folder for the jobs that holds runs, before Hydra writes into it.

    Raises
    ------
    ConfigError
        As `check_new_folder`.
    """
    own = [word for word in overrides if word.startswith("hydra.sweep.dir=")]
    if own:
        cfg = compose("config", own, return_hydra_config=True)
        check_new_folder(Path(str(cfg.hydra.sweep.dir)), "hydra.sweep.dir")


def check_words(words: Sequence[str], *, scored: bool = True) -> None:
    """Refuse a sweep whose runs would end at a missing package, before Hydra makes its folder.

    What varies is left out. Words that are wrong otherwise are left to Hydra.

    Raises
    ------
    MissingExtraError, TrackingError
        As `check_extras`.
    ConfigError
        If a word is of an earlier version.
    """
    renamed.check_overrides(words)
    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
        fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
        experiment = parse(Experiment, without_sweep(compose("config", fixed)))
    except (ConfigError, HydraException):
        return
    check_extras(experiment, scored=scored)


def enter_hydra(overrides: Sequence[str], task: Callable[[DictConfig], Any]) -> None:
    """Let Hydra run `task` once for each job of a sweep.

    Raises
    ------
    PrimiaError
        What a job or a sweeper raised, or one sentence for an error of Hydra.
    """
    arguments = ["primia train", "--multirun", *with_search_path(overrides)]
    entry = hydra.main(
        version_base="1.3", config_path=str(app_root() / "conf"), config_name="config"
    )
    with patch.object(sys, "argv", arguments), patch.dict("os.environ", {"HYDRA_FULL_ERROR": "1"}):
        try:
            entry(task)()
        except PrimiaError:
            raise
        except Exception as error:
            raise ConfigError(explain(error)) from None
