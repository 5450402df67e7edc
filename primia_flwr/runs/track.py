"""A run in experiment tracking: its curves while it goes, from the files that it writes."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.errors import PrimiaError
from primia_flwr.runs.folder import Row, RunFolder, number, read_run_folder
from primia_flwr.runs.history import Event, EventTail
from primia_flwr.runs.metadata import read_json
from primia_flwr.runs.tracking import Record, Tracked
from primia_flwr.runs.tracking_mode import resolve_mode
from primia_flwr.tasks.task import Metric

logger = logging.getLogger(__name__)
_NO_FAILURE = ("pruned", "stopped")


class Curves:
    """A run as experiment tracking sees it: its curves while it goes, all the rest at its end.

    Opened before the first round. `update` is called a few times a second.

    Raises
    ------
    MissingExtraError, TrackingError
        As `resolve_mode`; or if W&B refuses the key.
    """

    def __init__(self, experiment: Experiment, run_dir: Path) -> None:
        self._experiment, self._run_dir = experiment, run_dir
        self._metric = experiment.task.aim
        self._best: list[float] = []
        self._sent = False
        mode = resolve_mode(experiment.tracking)
        self._run = Tracked(
            *(experiment.tracking, run_dir, mode),
            name=_title(experiment, run_dir),
            config=_settings(experiment),
        )
        # Offline a later start replaces an earlier one, so it begins with what came before.
        whole = self._run.mode == "offline"
        self._tail = EventTail(run_dir / "events.jsonl", whole=whole)

    def update(self) -> None:
        """Send what is new of the run's events."""
        for event in self._tail.new():
            for point in points_of(event, self._experiment.task.metrics):
                self._sent = True
                self._run.log(point)
                if (value := point.get(self._metric.column)) is not None:
                    self._best.append(value)

    def finish(self) -> None:
        """Send tables, scores and the model of a finished run, and of sites if they are wanted."""
        self.update()
        try:
            record = record_of(_settings(self._experiment), read_run_folder(self._run_dir))
        except PrimiaError as error:
            logger.warning("tracking: %s", error)
            self._run.end(failed=True)
            return
        for point in () if self._sent else record.curves[""]:  # of a search, the chosen one's
            self._run.log(point)
        about = self._said(record.summary, "finished")
        chosen = read_json(self._run_dir / "result.json").get("values")
        if chosen:
            about["words"]["chosen"] = json.dumps(chosen)
        self._run.end(replace(record, **about))
        if self._experiment.tracking.sites:
            self._send_sites(record)

    def fail(self, status: str, reason: str = "") -> None:
        """Close the W&B run of a run that has not finished."""
        self.update()
        about = self._said({}, status)
        words = {**about["words"], "reason": reason[:500]}
        end = Record({}, {}, summary=about["summary"], words=words)
        self._run.end(end, failed=status not in _NO_FAILURE)

    def _said(self, summary: Mapping[str, float | None], status: str) -> dict[str, Any]:
        """Return the status, and the objective: the best validation, as a search ranks by it."""
        best = self._metric.best(self._best) if self._best else None
        return {"summary": {**summary, "objective": best}, "words": {"status": status}}

    def _send_sites(self, record: Record) -> None:
        for site, points in record.curves.items():
            if not site:
                continue
            tracked = Tracked(self._experiment.tracking, self._run_dir, self._run.mode, site=site)
            for point in points:
                tracked.log(point)
            tracked.end()


def points_of(event: Event, metrics: Sequence[Metric]) -> list[dict[str, float | None]]:
    """Return the curve points that an event tells; a validation is of its own round's model."""
    if event["event"] not in ("round_finished", "validated") or "configuration" in event:
        return []
    trained = {
        name: event.get(name) for name in ("round", "train_loss", "images_per_second", "seconds")
    }
    number = event.get("val_round", event.get("round"))
    seen = {metric.column: event.get(metric.column) for metric in metrics}
    points = [{"round": number, **seen}] if number else []
    return points if event["event"] == "validated" else [trained, *points]


def _title(experiment: Experiment, run_dir: Path) -> str:
    """Return what a run is called; a job of a sweep by its number, too."""
    job = run_dir.name if run_dir.name.isdigit() else ""
    return f"{experiment.name} {job}".strip()


def _tables(folder: RunFolder) -> dict[str, list[list[Any]]]:
    """Return the tables of a run as rows, with their headings first."""
    tested, written = folder.task.judge.tested, {"history": folder.history, "sites": folder.sites}
    results: list[list[Any]] = [["model", *(metric.words for metric in tested), "n"]]
    for name, scores in folder.results.items():
        figures = scores.figures()
        results.append([name, *(figures[metric.name] for metric in tested), scores.n])
    tables = {
        name: [list(rows[0]), *(list(row.values()) for row in rows)]
        for name, rows in written.items()
        if rows
    }
    return {**tables, "results": results}


def record_of(settings: dict[str, Any], folder: RunFolder) -> Record:
    """Return what is sent of a run's folder."""
    task, judge = folder.task, folder.task.judge
    curves = {"": _curves(folder.history, task.metrics)}
    for site in dict.fromkeys(row["site"] for row in folder.sites if row.get("site")):
        own = [row for row in folder.sites if row.get("site") == site]
        curves[site] = _curves(own, task.watched)
    federated = folder.results.get("Federated")
    reached = federated.figures() if federated else {}
    return Record(
        settings,
        curves,
        tables=_tables(folder),
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
