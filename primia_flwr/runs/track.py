"""Hand a finished run to experiment tracking, from the files that it wrote."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.runs.folder import Row, RunFolder, number, read_run_folder
from primia_flwr.runs.tracking import Record, send
from primia_flwr.tasks.task import Metric


def track(experiment: Experiment, run_dir: Path) -> None:
    """Send configuration, curves, tables and the model of a finished run."""
    record = record_of(_settings(experiment), read_run_folder(run_dir))
    send(record, experiment.tracking, run_dir, name=experiment.name)


def record_of(settings: dict[str, Any], folder: RunFolder) -> Record:
    """Return what is sent of a run's folder."""
    task, judge = folder.task, folder.task.judge
    curves = {"": _curves(folder.history, task.metrics)}
    for site in dict.fromkeys(row["site"] for row in folder.sites if row.get("site")):
        own = [row for row in folder.sites if row.get("site") == site]
        curves[site] = _curves(own, task.watched)
    results: list[Sequence[Any]] = [["model", *(metric.words for metric in judge.tested), "n"]]
    for name, scores in folder.results.items():
        figures = scores.figures()
        results.append([name, *(figures[metric.name] for metric in judge.tested), scores.n])
    written = {"history": folder.history, "sites": folder.sites}
    tables: dict[str, Any] = {
        name: [list(rows[0]), *(list(row.values()) for row in rows)]
        for name, rows in written.items()
        if rows
    }
    federated = folder.results.get("Federated")
    reached = federated.figures() if federated else {}
    return Record(
        settings,
        curves,
        tables={**tables, "results": results},
        summary={key: reached.get(key) for key in judge.headline},
        model=[folder.path / "model.safetensors", folder.path / "model.json"],
    )


def _curves(rows: Sequence[Row], metrics: Sequence[Metric]) -> list[dict[str, float | None]]:
    validated = [metric.column for metric in metrics]
    names = ("round", "train_loss", *validated, "images_per_second")
    return [{name: number(row, name) for name in names} for row in rows]


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Return the configuration without what names this machine: folders, addresses, the roster."""
    settings: dict[str, Any] = asdict(experiment)
    for key in ("output_dir", "resume", "deployment"):
        del settings[key]
    for key in ("root", "manifest", "cache_dir"):
        del settings["data"][key]
    return settings
