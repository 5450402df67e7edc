"""`evidence.json`: what is known of a run's models on its own test set beyond their scores.

Federated model and baselines are judged on the same images, by the same resamples, with the
methods of `primia compare`. Written once by the run; report and model card read it.
"""

from __future__ import annotations

from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.statistics.intervals import LEVEL, RESAMPLES
from primia_flwr.storage.atomic import write_result
from primia_flwr.storage.reading import parse_json, read_text, reading
from primia_flwr.tasks.judge import Evidence, Judge
from primia_flwr.tasks.predictions import Predictions

_FILE = "evidence.json"


def write_evidence(run_dir: Path, judge: Judge, *, seed: int, resamples: int = RESAMPLES) -> None:
    """Judge the predictions that lie in a run's folder and write evidence.json.

    A run without predictions.csv gets none, nor one whose task has no evidence.

    Parameters
    ----------
    run_dir : Path
        The run's folder, with predictions.csv and perhaps those of baselines.
    judge : Judge
        Of the run's task.
    seed : int
        Of the bootstrap.
    resamples : int
        Of the bootstrap; at least 1.

    Raises
    ------
    DataError
        If predictions cannot be read, are of other images, or the file cannot be written.
    """
    path = run_dir / "predictions.csv"
    if not path.is_file():
        return
    own = read_predictions(path, judge).numbered()
    found = judge.evidence(_models(run_dir, own, judge), seed=seed, resamples=resamples)
    if found:
        about = {
            "images": len(own),
            "patients": len(set(own.patients)),
            "level": LEVEL,
            "resamples": resamples,
            "seed": seed,
        }
        write_result(run_dir / _FILE, {**about, **found})


def read_evidence(run_dir: Path, judge: Judge) -> Evidence | None:
    """Read what `write_evidence` wrote; None where there is nothing.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = run_dir / _FILE
    if not path.is_file():
        return None
    expected = (
        "the file as the run wrote it; delete it, then the report says that there are no intervals"
    )
    with reading(path, error=DataError, expected=expected):
        return judge.read_evidence(parse_json(read_text(path), finite=False))


def _models(run_dir: Path, own: Predictions, judge: Judge) -> dict[str, Predictions]:
    """Return the federated model's predictions, those of single sites, then of the central one."""
    found = dict[str, Predictions]()
    for path in sorted(run_dir.glob("predictions-*.csv")):
        name = path.stem.removeprefix("predictions-")
        known = read_predictions(path, judge).numbered()
        if known.files != own.files or known.names != own.names:
            raise DataError(
                f"{path}: other images or classes than predictions.csv beside it; expected the "
                "same test set; delete the file of an older run"
            )
        single = f"{name.removeprefix('local-')} local"
        found[name.capitalize() if name in ("ensemble", "centralised") else single] = known
    last: dict[str, Predictions] = {
        name: found.pop(name) for name in ("Ensemble", "Centralised") if name in found
    }
    return {"Federated": own, **found, **last}
