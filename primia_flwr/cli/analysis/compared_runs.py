"""What `primia compare` compares: models of runs on the same images, and their validation sets."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from primia_flwr.cli.analysis.scored_data import ScoredDataConfig, experiment_of, images_for
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rows import TASKS
from primia_flwr.data.pseudonyms import private_folder
from primia_flwr.errors import CheckpointError, ConfigError, DataError, PrimiaError
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.models.saved import load_model
from primia_flwr.pipeline.scoring import predictions_of, score_model
from primia_flwr.runs.metadata import read_json
from primia_flwr.tasks.judge import Judge
from primia_flwr.tasks.predictions import (
    BASELINE,
    MODEL,
    Predictions,
    Reading,
    by_file,
    difference_of,
)
from primia_flwr.training.device import pick_device
from primia_flwr.training.evaluate import predict
from primia_flwr.training.normalisation import Normalisation


@dataclass(frozen=True)
class Run:
    """A finished run: its column's name and folder, its experiment if config.yaml is there."""

    name: str
    path: Path
    experiment: Experiment | None

    @property
    def task(self) -> str:
        """The name of its task; the one by default where config.yaml is missing."""
        return self.experiment.data.task if self.experiment else DataConfig.task


@dataclass
class _Gathered:
    """Models on the same images, and what belongs to these; `site`: of a file, if known."""

    judge: Judge
    readings: list[Reading]
    data: str
    synthetic: bool
    own_test: bool
    site: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def images(self) -> Predictions:
        """What the first model made of the images: their files, patients and labels."""
        return self.readings[0].predictions


def named_runs(folders: Sequence[Path], names: Sequence[str]) -> list[Run]:
    """Return the runs with the names of their columns, after the folders where none are given.

    Raises
    ------
    ConfigError
        If there are as many names as runs neither nor none, or two runs have the same name.
    """
    if names and len(names) != len(folders):
        raise ConfigError(
            f"names has {len(names)} entries; expected {len(folders)}, one for each run, or none"
        )
    short = [path.name for path in folders]
    chosen = list(names) or [
        name if short.count(name) == 1 else f"{path.parent.name}/{name}"
        for name, path in zip(short, folders, strict=True)
    ]
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise ConfigError(
            f"two runs are called {twice[0]}; expected different folders, or names=[...] with "
            "different names"
        )
    return [
        Run(name, path, experiment_of(path)) for name, path in zip(chosen, folders, strict=True)
    ]


def gather(
    runs: Sequence[Run],
    asked: ScoredDataConfig,
    baselines: Sequence[str],
    *,
    batch_size: int,
    device: str,
) -> _Gathered:
    """Return all models' predictions of the same images.

    Without other data these are the predictions on the runs' own test sets that lie in their
    folders; else every model is run.

    Raises
    ------
    ConfigError, CheckpointError, DataError
        If the runs have no common images or task, or a model or the data cannot be used.
    """
    for run in runs:
        if run.task != runs[0].task:
            raise ConfigError(
                f"runs: {runs[0].name} is of data.task={runs[0].task}, {run.name} of "
                f"{run.task}; expected models of one task"
            )
    found = _own_tests(runs) if asked.is_own_test else _scored(runs, asked, batch_size, device)
    for run in runs:
        _join_baselines(found, run, baselines)
    return found


def validation_of(
    run: Run, found: _Gathered, *, batch_size: int, device: str
) -> tuple[Predictions | None, str]:
    """Score a simulated run's validation images; None, and why, where they are not at hand."""
    from primia_flwr.data.dataset import load_pooled

    experiment = run.experiment
    if experiment is None or experiment.deployment.kind != "simulation":
        return None, "its validation images are at its sites"
    names = experiment.federation.sites
    try:
        model, card = load_model(run.path)
        held = load_pooled(
            experiment.data, seed=experiment.seed, num_sites=len(names), site_names=names
        ).val
    except PrimiaError as error:
        return None, f"its validation images cannot be read ({error})"
    if not found.own_test and set(held.files) & set(found.images.files):
        return None, "its validation images may be among those compared"
    outputs = predict(
        model,
        held,
        normalisation=Normalisation(card.mean, card.std),
        batch_size=batch_size,
        device=pick_device(device),
    )
    made = replace(predictions_of(held, outputs), names=card.classes)
    return found.judge.aligned(run.name, made, found.images.names), ""


def _own_tests(runs: Sequence[Run]) -> _Gathered:
    first, judge = None, TASKS[runs[0].task].judge
    for run in runs:
        path = run.path / "predictions.csv"
        if not path.is_file():
            raise ConfigError(
                f"runs: {run.name} has no predictions.csv of a test set of its own; expected data "
                "for all, e.g. data.root=scans"
            )
        own = _reading(judge, first, run, read_predictions(path, judge))
        if first is None:
            synthetic = bool(read_json(run.path / "run.json").get("synthetic"))
            data = "The test set that no site of the runs trained on."
            first = _Gathered(judge, [own], data, synthetic, own_test=True)
            continue
        _check_same(runs[0], run, first.images, own.predictions)
        first.readings.append(own)
    assert first is not None
    return first


def _reading(judge: Judge, first: _Gathered | None, run: Run, made: Predictions) -> Reading:
    """Return what a run's model made of the images, in the order of the first run's."""
    made = judge.aligned(run.name, made, first.images.names if first else made.names)
    return Reading(run.name, MODEL, str(run.path), by_file(run.name, made))


def _check_same(first: Run, second: Run, one: Predictions, other: Predictions) -> None:
    """Refuse two runs whose own test sets are not the same images."""
    difference = difference_of(one, other)
    sources = [_source(run) for run in (first, second)]
    if not difference and None not in sources and sources[0] != sources[1]:
        difference = f"read from {sources[0]} and {sources[1]}"
    if difference:
        raise ConfigError(
            f"runs: the test sets of {first.name} and {second.name} are not the same images "
            f"({difference}); expected runs of the same data and seed, or data for all, e.g. "
            "data.root=scans"
        )


def _source(run: Run) -> str | None:
    """Return where a run's images come from, in words; None where config.yaml is missing."""
    if run.experiment is None:
        return None
    data = run.experiment.data
    if data.layout == "synthetic":
        return f"the synthetic images of {data.synthetic}"
    return f"{data.manifest or data.root}"


def _scored(
    runs: Sequence[Run], asked: ScoredDataConfig, batch_size: int, device: str
) -> _Gathered:
    first, judge = None, TASKS[runs[0].task].judge
    with tempfile.TemporaryDirectory(prefix="primia-compare-") as folder:
        for index, run in enumerate(runs):
            model, card = load_model(run.path)
            scored = images_for(run.path, card, asked)
            path = Path(folder) / f"{index}.csv"
            score_model(
                *(model, card, scored.images, path),
                batch_size=batch_size,
                device=device,
                private=private_folder(scored.data.cache_dir),
            )
            own = _reading(judge, first, run, read_predictions(path, judge))
            if first is None:
                first = _Gathered(judge, [own], _described(scored), scored.images.synthetic, False)
                first.site = {s.path: s.site for s in scored.manifest.samples if s.site}
            else:
                difference = difference_of(first.images, own.predictions)
                if difference:
                    raise ConfigError(
                        f"data: {runs[0].name} and {run.name} read different images "
                        f"({difference}); expected the same: name data.root, data.layout and "
                        "data.split for all"
                    )
                first.readings.append(own)
            if scored.warning:
                first.notes.append(f"Warning, {run.name}: {scored.warning}.")
    assert first is not None
    return first


def _described(scored: Any) -> str:
    source = Path(scored.data.manifest or scored.data.root or scored.data.layout).name
    return f"Data: {source} ({scored.origin})."


def _read_baseline(found: _Gathered, path: Path, name: str) -> Predictions:
    made = read_predictions(path, found.judge)
    try:
        return by_file(name, found.judge.aligned(name, made, found.images.names))
    except DataError:
        raise CheckpointError(
            f"{path} does not belong to its run (other classes, or an image twice); expected "
            "the file as the run wrote it; copy the run folder again"
        ) from None


def _join_baselines(found: _Gathered, run: Run, wanted: Sequence[str]) -> None:
    """Add the run's baselines where their predictions are of the same images; else say so."""
    lacking = []
    for path in sorted(run.path.glob("predictions-*.csv")):
        kind, _, site = path.stem.removeprefix("predictions-").partition("-")
        if kind not in wanted:
            continue
        name = f"{run.name}: {site} local" if site else f"{run.name}: {kind}"
        made = _read_baseline(found, path, name)
        if difference_of(found.images, made):
            lacking.append(site or kind)
        else:
            found.readings.append(Reading(name, BASELINE, str(path), made))
    if lacking:
        found.notes.append(
            f"Not shown: the baselines of {run.name} ({', '.join(lacking)}); only their "
            "predictions on the run's own test set are kept, and these are other images."
        )
