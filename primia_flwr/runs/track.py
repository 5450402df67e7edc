"""Hand a finished run to experiment tracking, from the files that it wrote."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import DataError
from primia_flwr.runs.folder import RunFolder, number, read_run_folder
from primia_flwr.runs.tracking import Tracker
from primia_flwr.storage import plain_csv
from primia_flwr.storage.reading import read_text, reading

_ROUND_CURVES = ("train_loss", "val_loss", "val_accuracy", "val_mcc", "images_per_second")
_SITE_CURVES = ("train_loss", "val_loss", "val_mcc", "images_per_second")


def track(experiment: Experiment, run_dir: Path) -> None:
    """Log configuration, curves, tables and the model of a finished run."""
    folder = read_run_folder(run_dir)
    with Tracker(experiment.tracking, run_dir, name=experiment.name) as tracker:
        tracker.start(_settings(experiment))
        for row in folder.history:
            tracker.log_round(int(row["round"]), {k: number(row, k) for k in _ROUND_CURVES})
        for row in folder.sites:
            values = {k: number(row, k) for k in _SITE_CURVES}
            tracker.log_site(row["site"], int(row["round"]), values)
        _log_tables(tracker, folder)
        tracker.log_model([run_dir / "model.safetensors", run_dir / "model.json"])


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Return the configuration without what names this machine: folders, addresses, the roster."""
    settings: dict[str, Any] = asdict(experiment)
    for key in ("output_dir", "resume", "deployment"):
        del settings[key]
    for key in ("root", "manifest", "cache_dir"):
        del settings["data"][key]
    return settings


def _log_tables(tracker: Tracker, folder: RunFolder) -> None:
    for name in ("history", "sites"):
        path = folder.path / f"{name}.csv"
        if path.is_file():
            with reading(path, error=DataError, expected="the CSV file as the run wrote it"):
                header, *rows = list(plain_csv.reader(io.StringIO(read_text(path), newline="")))
            tracker.log_table(name, header, rows)
    columns = ("model", "accuracy", "balanced accuracy", "MCC", "ROC-AUC", "n")
    results: list[list[Any]] = [
        [name, s.accuracy, s.balanced_accuracy, s.mcc, s.roc_auc, s.n]
        for name, s in folder.results.items()
    ]
    tracker.log_table("results", columns, results)
    federated = folder.results.get("Federated")
    if federated:
        tracker.log_summary(
            {"accuracy": federated.accuracy, "mcc": federated.mcc, "roc_auc": federated.roc_auc}
        )
