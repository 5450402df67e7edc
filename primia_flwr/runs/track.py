"""Hand a finished run to experiment tracking, from the files that it wrote."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.runs.folder import Row, RunFolder, number, read_run_folder
from primia_flwr.runs.tracking import Record, send

_ROUND_CURVES = ("round", "train_loss", "val_loss", "val_accuracy", "val_mcc", "images_per_second")
_SITE_CURVES = ("round", "train_loss", "val_loss", "val_mcc", "images_per_second")
_RESULTS = ("model", "accuracy", "balanced accuracy", "MCC", "ROC-AUC", "n")


def track(experiment: Experiment, run_dir: Path) -> None:
    """Send configuration, curves, tables and the model of a finished run."""
    record = record_of(_settings(experiment), read_run_folder(run_dir))
    send(record, experiment.tracking, run_dir, name=experiment.name)


def record_of(settings: dict[str, Any], folder: RunFolder) -> Record:
    """Return what is sent of a run's folder."""
    curves = {"": _curves(folder.history, _ROUND_CURVES)}
    for site in dict.fromkeys(row["site"] for row in folder.sites if row.get("site")):
        own = [row for row in folder.sites if row.get("site") == site]
        curves[site] = _curves(own, _SITE_CURVES)
    results: list[Sequence[Any]] = [
        (name, s.accuracy, s.balanced_accuracy, s.mcc, s.roc_auc, s.n)
        for name, s in folder.results.items()
    ]
    written = {"history": folder.history, "sites": folder.sites}
    tables: dict[str, Any] = {
        name: [list(rows[0]), *(list(row.values()) for row in rows)]
        for name, rows in written.items()
        if rows
    }
    federated = folder.results.get("Federated")
    return Record(
        settings,
        curves,
        tables={**tables, "results": [_RESULTS, *results]},
        summary={key: getattr(federated, key, None) for key in ("accuracy", "mcc", "roc_auc")},
        model=[folder.path / "model.safetensors", folder.path / "model.json"],
    )


def _curves(rows: Sequence[Row], names: Sequence[str]) -> list[dict[str, float | None]]:
    return [{name: number(row, name) for name in names} for row in rows]


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Return the configuration without what names this machine: folders, addresses, the roster."""
    settings: dict[str, Any] = asdict(experiment)
    for key in ("output_dir", "resume", "deployment"):
        del settings[key]
    for key in ("root", "manifest", "cache_dir"):
        del settings["data"][key]
    return settings
