"""`primia train -m sweep=<choice>`: a search for hyper-parameters instead of a sweep over lists."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from primia_flwr.cli.train.live import LiveView
from primia_flwr.cli.train.multirun import enter_hydra
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import parse, without_sweep
from primia_flwr.config.rows import TASKS
from primia_flwr.pipeline.experiment import run_experiment, settle
from primia_flwr.search.sweeper import SESSION, Session, register
from primia_flwr.search.trial import Follower, Outcome, outcome_of


def run_search_over(words: Sequence[str]) -> dict[str, Any]:
    """Begin a search, or go on with one, by its checked words; return its one JSON line.

    Raises
    ------
    PrimiaError
        If the search cannot begin or go on.
    """
    register()
    session = Session()
    token = SESSION.set(session)

    def task(cfg: DictConfig) -> Outcome:
        assert session.trial is not None
        folder = Path(HydraConfig.get().runtime.output_dir)
        return _run_trial(session.trial, cfg, folder)

    try:
        enter_hydra(words, task)
    finally:
        SESSION.reset(token)
    assert session.summary is not None
    return session.summary


def _run_trial(trial: optuna.Trial, cfg: DictConfig, folder: Path) -> Outcome:
    """Run one trial in its folder; the test images are held out and nobody looks at them."""
    rounds = int(cfg.federation.rounds)
    sites, metric = [str(site) for site in cfg.federation.sites], TASKS[cfg.data.task].aim
    with LiveView(folder, rounds, sites, metric, quiet=bool(cfg.quiet)) as view:
        follower = Follower(view, trial, folder, rounds, metric)

        def run() -> None:
            experiment = settle(_as_trial(parse(Experiment, without_sweep(cfg)), folder), folder)
            run_experiment(experiment, folder, follower, score=False)

        return outcome_of(run, follower)


def _as_trial(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment as a trial: tracked with the others, without baselines."""
    group = experiment.tracking.group or folder.parent.name[:128]
    return replace(
        experiment, baselines=[], tracking=replace(experiment.tracking, group=group, model=False)
    )
