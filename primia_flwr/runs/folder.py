"""What a run left behind, read back: the only input of the report.

Everything but `run.json` is optional, because a deployment has no test set, a run may have
been made without baselines, and a report of a run that broke off is worth having.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.errors import DataError
from primia_flwr.evaluation.explain.cases import FILE as CASES
from primia_flwr.evaluation.explain.cases import FOLDER, Explanation, read_cases
from primia_flwr.evaluation.explain.pictures import read_pictures
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.runs.cross_site import CrossSite, read_matrix
from primia_flwr.runs.evidence import read_evidence
from primia_flwr.runs.secure_sums import SumFile, read_sum_file
from primia_flwr.statistics.arrays import FloatArray
from primia_flwr.storage import plain_csv
from primia_flwr.storage.reading import parse_json, read_text, reading
from primia_flwr.tasks.judge import Evidence, Judge, ModelScores
from primia_flwr.tasks.predictions import Predictions
from primia_flwr.tasks.task import Task

Row = dict[str, str]

_EXPECTED = "the file as the run wrote it; copy the whole run folder again"


@dataclass(frozen=True)
class RunFolder:
    """The content of one output folder.

    `run` is run.json. `history` holds one row a round and `sites` one row a (round, site), cells
    as text and empty where unknown. `results` maps a name for people (Federated, site-1 local,
    Centralised) to scores. `predictions` are the federated model's on the test set. `secure` are
    the secure sums, none where the run averaged plainly. `evidence`: intervals and calibration on
    the test set; `matrix`: each site's model at every site; `explanation`: explained test cases
    of the run, or else of the latest `primia evaluate`.
    """

    path: Path
    run: dict[str, Any]
    config: str
    history: list[Row]
    sites: list[Row]
    task: Task
    results: dict[str, ModelScores]
    predictions: Predictions | None
    secure: SumFile
    evidence: Evidence | None
    matrix: CrossSite | None
    explanation: Explanation | None

    @property
    def claims_privacy(self) -> bool:
        """Whether the run was made with differential privacy."""
        privacy = plain_values(self.config).get("privacy") or {}
        return str(privacy.get("mode", "none")) != "none"

    @property
    def one_machine(self) -> bool:
        """Whether one machine held all sites: a simulation, or a trial of a federation."""
        return self.run.get("deployment") == "simulation" or (self.path / "trial").is_dir()


def read_run_folder(path: Path) -> RunFolder:
    """Read an output folder.

    Raises
    ------
    DataError
        If it is no output folder, or a file in it cannot be read.
    """
    if not (path / "run.json").is_file():
        raise DataError(
            f"{path}: no run.json there; expected the output folder of a run, e.g. "
            "outputs/2026-11-21/12-00-00-demo"
        )
    config = _read_config(path / "config.yaml")
    task = _task_of(config)
    judge = task.judge
    return RunFolder(
        path=path,
        run=read_object(path / "run.json"),
        config=config,
        history=_read_csv(path / "history.csv"),
        sites=_read_csv(path / "sites.csv"),
        task=task,
        results=results_by_name(read_object(path / "metrics.json"), judge),
        predictions=_predictions(path, judge),
        secure=read_sum_file(path),
        evidence=read_evidence(path, judge),
        matrix=read_matrix(path),
        explanation=read_cases(path / FOLDER) or _evaluated_cases(path),
    )


def _predictions(path: Path, judge: Judge) -> Predictions | None:
    """Return the federated model's, with the images that the run has put beside them."""
    file = path / "predictions.csv"
    if not file.is_file():
        return None
    made = read_predictions(file, judge).numbered()
    return replace(made, pictures=read_pictures(path / FOLDER))


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a run; empty where there is no such file.

    Raises
    ------
    DataError
        If the file holds anything else.
    """
    if not path.is_file():
        return {}
    with reading(path, error=DataError, expected=_EXPECTED):
        values = parse_json(read_text(path), finite=False)
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, no JSON object")
        return dict(values)


def results_by_name(metrics: Mapping[str, Any], judge: Judge) -> dict[str, ModelScores]:
    """Return the scores in metrics.json by a name for people, in the order of the tables.

    Raises
    ------
    DataError
        If an entry is not the scores of one model.
    """
    results: dict[str, ModelScores] = {}
    with reading("metrics.json", error=DataError, expected=_EXPECTED):
        if metrics.get("federated"):
            results["Federated"] = judge.read_scores(metrics["federated"])
        for site, values in (metrics.get("own") or {}).items():
            results[f"{site} own layers"] = judge.read_scores(values)
        for site, values in (metrics.get("local") or {}).items():
            results[f"{site} local"] = judge.read_scores(values)
        for name in ("ensemble", "centralised"):
            if metrics.get(name):
                results[name.capitalize()] = judge.read_scores(metrics[name])
    return results


def _task_of(config: str) -> Task:
    """Return the task in a configuration's text; the one by default where it names none."""
    data = plain_values(config).get("data")
    name = data.get("task", DataConfig.task) if isinstance(data, dict) else DataConfig.task
    if not isinstance(name, str) or name not in TASKS:
        raise DataError(
            f"config.yaml: data.task={name!r:.40}; expected one of {', '.join(TASKS)}; a task of "
            "one's own is found with --plugins"
        )
    found: Task = TASKS[name]
    return found


def plain_values(config: str) -> dict[str, Any]:
    """Return a configuration's text as plain values; nothing where it cannot be read."""
    try:
        values = OmegaConf.to_container(OmegaConf.create(config))
    except Exception:  # an unreadable config is still shown as text
        return {}
    return values if isinstance(values, dict) else {}  # type: ignore[return-value]


def number(row: Mapping[str, Any], key: str) -> float:
    """Return a cell as a number; NaN where it is missing, empty or no number."""
    try:
        return float(row.get(key) or "nan")
    except (TypeError, ValueError):
        return float("nan")


def column(rows: Sequence[Mapping[str, Any]], key: str) -> FloatArray:
    """Return a column as numbers, (rows,); NaN as in `number`."""
    return np.array([number(row, key) for row in rows], np.float64)


def training_seconds(path: Path) -> float:
    """Return how long the sites of a run have trained in all its rounds; 0 where none is known."""
    rows = _read_csv(path / "history.csv")
    return float(np.nansum(column(rows, "seconds") - column(rows, "seconds_outside_training")))


def flag(row: Mapping[str, str], key: str) -> bool:
    """Return a cell as yes or no."""
    return row.get(key, "").strip().lower() in ("1", "true", "yes")


def _evaluated_cases(run_dir: Path) -> Explanation | None:
    """Return the cases that `primia evaluate` explained last."""
    lists = run_dir.glob(f"evaluation/*/{FOLDER}/{CASES}")
    newest = max(lists, key=lambda path: path.stat().st_mtime, default=None)
    return read_cases(newest.parent) if newest else None


def _read_config(path: Path) -> str:
    if not path.is_file():
        return ""
    with reading(path, error=DataError, expected=_EXPECTED):
        return read_text(path)


def _read_csv(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with reading(path, error=DataError, expected=_EXPECTED):
        rows = plain_csv.DictReader(io.StringIO(read_text(path), newline=""))
        return [{k: v or "" for k, v in row.items() if k} for row in rows]
