"""What `primia compare` compares: models of runs on the same images, and their validation sets."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.cli.analysis.scored_data import ScoredDataConfig, experiment_of, images_for
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import CheckpointError, ConfigError, DataError, PrimiaError
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.models.saved import load_model
from primia_flwr.pipeline.scoring import score_model
from primia_flwr.runs.metadata import read_json
from primia_flwr.tasks.classes.readers.compare import Held
from primia_flwr.tasks.panel import (
    BASELINE,
    MODEL,
    Panel,
    Predictions,
    panel_of,
    same_images,
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


@dataclass
class Gathered:
    """The panel, and what belongs to its images; `site` maps a file to its site if known."""

    panel: Panel
    data: str
    synthetic: bool
    own_test: bool
    site: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
) -> Gathered:
    """Return all models' predictions of the same images.

    Without other data these are the predictions on the runs' own test sets that lie in their
    folders; else every model is run.

    Raises
    ------
    ConfigError, CheckpointError, DataError
        If the runs have no common images, or a model or the data cannot be used.
    """
    own = not asked.is_new and asked.split in (None, "auto", "test")
    found = _own_tests(runs) if own else _scored(runs, asked, batch_size, device)
    for run in runs:
        _join_baselines(found, run, baselines)
    return found


def validation_of(
    run: Run, found: Gathered, *, batch_size: int, device: str
) -> tuple[Held | None, str]:
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
    if not found.own_test and set(held.files) & set(found.panel.files):
        return None, "its validation images may be among those compared"
    p = predict(
        model,
        held,
        normalisation=Normalisation(card.mean, card.std),
        batch_size=batch_size,
        device=pick_device(device),
    )
    columns = [card.classes.index(name) for name in found.panel.classes]
    position = np.argsort(np.array(columns))
    return (position[held.labels.numpy()].astype(np.int64), p[:, columns]), ""


def _own_tests(runs: Sequence[Run]) -> Gathered:
    first = None
    for run in runs:
        predictions = _own_predictions(run, "predictions.csv")
        if predictions is None:
            raise ConfigError(
                f"runs: {run.name} has no predictions.csv of a test set of its own; expected data "
                "for all, e.g. data.root=scans"
            )
        classes = first.panel.classes if first else predictions.classes
        panel = panel_of(run.name, predictions, classes, kind=MODEL, origin=str(run.path))
        if first is None:
            synthetic = bool(read_json(run.path / "run.json").get("synthetic"))
            data = "The test set that no site of the runs trained on."
            first = Gathered(panel, data, synthetic, own_test=True)
            continue
        _check_same(runs[0], run, first.panel, panel)
        first.panel = first.panel.joined(panel.readers)
    assert first is not None
    return first


def _check_same(first: Run, second: Run, one: Panel, other: Panel) -> None:
    """Refuse two runs whose own test sets are not the same images."""
    difference = same_images(one, other)
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


def _scored(runs: Sequence[Run], asked: ScoredDataConfig, batch_size: int, device: str) -> Gathered:
    first = None
    with tempfile.TemporaryDirectory(prefix="primia-compare-") as folder:
        for index, run in enumerate(runs):
            model, card = load_model(run.path)
            scored = images_for(run.path, card, asked)
            path = Path(folder) / f"{index}.csv"
            score_model(model, card, scored.images, path, batch_size=batch_size, device=device)
            predictions = read_predictions(path)
            classes = first.panel.classes if first else predictions.classes
            panel = panel_of(run.name, predictions, classes, kind=MODEL, origin=str(run.path))
            if first is None:
                first = Gathered(panel, _described(scored), scored.images.synthetic, False)
                first.site = {s.path: s.site for s in scored.manifest.samples if s.site}
            else:
                difference = same_images(first.panel, panel)
                if difference:
                    raise ConfigError(
                        f"data: {runs[0].name} and {run.name} read different images "
                        f"({difference}); expected the same: name data.root, data.layout and "
                        "data.split for all"
                    )
                first.panel = first.panel.joined(panel.readers)
            if scored.warning:
                first.notes.append(f"Warning, {run.name}: {scored.warning}.")
    assert first is not None
    return first


def _described(scored: Any) -> str:
    source = Path(scored.data.manifest or scored.data.root or scored.data.layout).name
    return f"Data: {source} ({scored.origin})."


def _join_baselines(found: Gathered, run: Run, wanted: Sequence[str]) -> None:
    """Add the run's baselines where their predictions are of the same images; else say so."""
    lacking = []
    for path in sorted(run.path.glob("predictions-*.csv")):
        kind, _, site = path.stem.removeprefix("predictions-").partition("-")
        if kind not in wanted:
            continue
        predictions = read_predictions(path)
        name = f"{run.name}: {site} alone" if site else f"{run.name}: {kind}"
        try:
            panel = panel_of(
                name, predictions, found.panel.classes, kind=BASELINE, origin=str(path)
            )
        except DataError:
            raise CheckpointError(
                f"{path} does not belong to its run (other classes, or an image twice); expected "
                "the file as the run wrote it; copy the run folder again"
            ) from None
        if same_images(found.panel, panel):
            lacking.append(site or kind)
        else:
            found.panel = found.panel.joined(panel.readers)
    if lacking:
        found.notes.append(
            f"Not shown: the baselines of {run.name} ({', '.join(lacking)}); only their "
            "predictions on the run's own test set are kept, and these are other images."
        )


def _own_predictions(run: Run, name: str) -> Predictions | None:
    path = run.path / name
    return read_predictions(path) if path.is_file() else None
