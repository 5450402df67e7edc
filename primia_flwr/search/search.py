"""One search from its question to its report, in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from rich.console import Console

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.load import deciding_settings, parse
from primia_flwr.config.search.dimensions import Choices, Dimension
from primia_flwr.config.search.space import Space
from primia_flwr.config.search.space_keys import check_options
from primia_flwr.config.search.sweep import COMMAND_FILE, SweepConfig
from primia_flwr.errors import ConfigError
from primia_flwr.search.loop import RunTrial, enqueue_default, run_search
from primia_flwr.search.record import record, summary, write_best
from primia_flwr.search.report import write_report
from primia_flwr.search.study import STUDY_FILE, open_study
from primia_flwr.search.table import trials_table
from primia_flwr.storage.atomic import write_result
from primia_flwr.tasks.task import Metric


@dataclass(frozen=True)
class Search:
    """A search over one experiment.

    Attributes
    ----------
    cfg : SweepConfig
        How the search goes on.
    space : Space
        What may vary.
    base : Experiment
        What stays as it is.
    folder : Path
        Where the study, the trials and the result lie.
    words : list of str
        The user's overrides, kept so that the search can go on without them.
    """

    cfg: SweepConfig
    space: Space
    base: Experiment
    folder: Path
    words: list[str]

    def run(self, run_trial: RunTrial) -> dict[str, Any]:
        """Run all trials that are missing; return the one JSON line of the search.

        Raises
        ------
        PrimiaError
            If the question is not allowed, the folder holds another, or all trials fail.
        """
        self._check()
        if self.base.dry_run:
            return {"trials": self.cfg.trials, "space": self.space.to_dict()}
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return self._run(run_trial)
        except Timeout:
            raise ConfigError(
                f"{self.folder} is in use by another search; expected a folder of its own; wait "
                "for the other, or begin a new search"
            ) from None

    def _run(self, run_trial: RunTrial) -> dict[str, Any]:
        console = Console(stderr=True, quiet=self.base.quiet, emoji=False)

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        settings = deciding_settings(self.base)
        metric: Metric = self.base.task.aim
        study = open_study(self.folder, self.cfg, self.space, settings, metric)
        write_result(self.folder / COMMAND_FILE, {"overrides": self.words})
        say(f"search folder: {self.folder}")
        if self.cfg.default_first:
            enqueue_default(study, self.space, _values(self.base, self.space))
        try:
            trials = self.cfg.trials
            run_search(study, self.space, run_trial, trials=trials, say=say, metric=metric)
        finally:
            found = record(study, self.space, self.cfg, self.folder, metric)
            write_result(self.folder / "sweep.json", found)
        return self._finish(study, found, metric)

    def _finish(self, study: optuna.Study, found: dict[str, Any], metric: Metric) -> dict[str, Any]:
        """Write the best experiment and the report; print both."""
        if found["best"]:
            found["best"]["experiment"] = str(write_best(self.folder, self.base, found))
            write_result(self.folder / "sweep.json", found)
        report = write_report(self.folder, study, found, metric)
        shown = Console(stderr=self.base.quiet, quiet=self.base.quiet, emoji=False)
        shown.print(trials_table(found, metric))
        shown.print(f"report: {report.resolve().as_uri()}", soft_wrap=True)
        return summary(found, metric)

    def _check(self) -> None:
        """Refuse a question that a search must not or cannot answer."""
        if self.base.privacy.enabled:
            raise ConfigError(
                f"privacy.mode={self.base.privacy.mode} with sweep; expected privacy=none: to "
                "choose a trial by its validation scores is a release of its own, which no run's "
                "epsilon counts; search on public or synthetic data, then run once in private"
            )
        rules = self.space.dimensions.get("strategy.name")
        names = rules.values if isinstance(rules, Choices) else (self.base.strategy.name,)
        check_options(self.space.names, self.base, names)
        monitor, aim = self.base.training.early_stopping.federation.monitor, self.base.task.aim
        if self.base.task.metric(monitor) != aim:
            raise ConfigError(
                f"training.early_stopping.federation.monitor={monitor} with sweep; expected "
                f"{aim.name}: the search compares the {aim.best_words}, so each run has to keep "
                "that round"
            )
        self._check_ends()
        self._check_resumed(self.cfg.resume)

    def _check_ends(self) -> None:
        """Refuse an end or a choice that no run can have, before a trial is spent on it."""
        for name, dimension in self.space.dimensions.items():
            for value in _ends(dimension):
                if why := self._refused(name, value):
                    raise ConfigError(f"sweep.space has a value that no run can have: {why}")

    def _refused(self, name: str, value: object) -> str:
        """Return why no experiment of the space can have a value; nothing if one may."""
        told = self._why_not({name: value})
        others = {key: _ends(one) for key, one in self.space.dimensions.items() if key != name}
        with_another = (
            self._why_not({name: value, key: end}) for key, ends in others.items() for end in ends
        )
        if not told.startswith(f"{name}="):
            return ""
        return told if all(why.startswith(f"{name}=") for why in with_another) else ""

    def _why_not(self, values: Mapping[str, object]) -> str:
        """Return the sentence that refuses the experiment with other values; nothing if it goes."""
        tree = OmegaConf.structured(self.base)
        for name, value in values.items():
            if not name.startswith("strategy.options."):  # which `check_options` looks at
                OmegaConf.update(tree, name, value, merge=False)
        try:
            parse(Experiment, tree)
        except ConfigError as error:
            return str(error)
        return ""

    def _check_resumed(self, resume: str) -> None:
        if resume and not (Path(resume) / STUDY_FILE).is_file():
            raise ConfigError(
                f"sweep.resume={resume}; expected the folder of a search (with a {STUDY_FILE}), "
                "e.g. sweep.resume=outputs/2026-11-21/12-00-00-pneumonia"
            )


def _ends(dimension: Dimension) -> tuple[Any, ...]:
    """Return what a dimension can give at its ends, or all of its choices."""
    return dimension.values if isinstance(dimension, Choices) else (dimension.low, dimension.high)


def _values(base: Experiment, space: Space) -> Mapping[str, Any]:
    tree = OmegaConf.structured(base)
    values = {name: OmegaConf.select(tree, name) for name in space.names}
    return {
        name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for name, value in values.items()
    }
