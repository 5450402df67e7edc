"""`evidence.json`: the intervals and the calibration of a run's models on its own test set.

Federated model and baselines are judged on the same images, by the same resamples, with the
methods of `primia compare`. Written once by the run; report and model card read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.errors import DataError
from primia_flwr.evaluation.predictions import read_predictions
from primia_flwr.statistics.calibration import Bin, calibration
from primia_flwr.statistics.intervals import LEVEL, RESAMPLES, Interval
from primia_flwr.storage.atomic import write_result
from primia_flwr.storage.reading import parse_json, read_text, reading
from primia_flwr.tasks.classes.readers.figures import ReaderFigures, reader_figures
from primia_flwr.tasks.panel import BASELINE, MODEL, Panel, Predictions, Reader

FILE = "evidence.json"
FIGURES = ("accuracy", "mcc", "roc_auc")


@dataclass(frozen=True)
class Reliability:
    """Calibration of the federated model: `ece` in [0, 1], `brier` in [0, 2], its `bins`."""

    ece: float
    brier: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Evidence:
    """What is known of a run's models beyond their figures.

    `figures`: by model, then by figure of `FIGURES`. `per_class`: of the federated model, by
    class, then sensitivity, specificity and roc_auc. `images`, `patients`: of the test set.
    """

    images: int
    patients: int
    resamples: int
    figures: dict[str, dict[str, Interval]]
    per_class: dict[str, dict[str, Interval]]
    reliability: Reliability


def write_evidence(run_dir: Path, *, seed: int, resamples: int = RESAMPLES) -> None:
    """Judge the predictions that lie in a run's folder and write evidence.json.

    A run without predictions.csv gets none.

    Parameters
    ----------
    run_dir : Path
        The run's folder, with predictions.csv and perhaps those of baselines.
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
    predictions = read_predictions(path)
    panel = _panel(run_dir, predictions)
    figures = reader_figures(panel, seed=seed, resamples=resamples)
    own = figures["Federated"]
    known = calibration(predictions.labels, predictions.probabilities)
    content = {
        "images": len(panel),
        "patients": panel.num_patients,
        "level": LEVEL,
        "resamples": resamples,
        "seed": seed,
        "figures": {
            name: {key: _interval(of_model, key).to_dict() for key in FIGURES}
            for name, of_model in figures.items()
        },
        "per_class": {
            name: {
                "sensitivity": own.sensitivity[name].to_dict(),
                "specificity": own.specificity[name].to_dict(),
                "roc_auc": own.roc_auc_per_class[name].to_dict(),
            }
            for name in panel.classes
        },
        "calibration": known.to_dict(),
    }
    write_result(run_dir / FILE, content)


def read_evidence(run_dir: Path) -> Evidence | None:
    """Read what `write_evidence` wrote; None where there is nothing.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = run_dir / FILE
    if not path.is_file():
        return None
    expected = (
        "the file as the run wrote it; delete it, then the report says that there are no intervals"
    )
    with reading(path, error=DataError, expected=expected):
        values = parse_json(read_text(path), finite=False)
        known = values["calibration"]
        bins = tuple(Bin(**one) for one in known["bins"])
        return Evidence(
            images=int(values["images"]),
            patients=int(values["patients"]),
            resamples=int(values["resamples"]),
            figures=_intervals(values["figures"]),
            per_class=_intervals(values["per_class"]),
            reliability=Reliability(float(known["ece"]), float(known["brier"]), bins),
        )


def _panel(run_dir: Path, own: Predictions) -> Panel:
    readers = [_reader("Federated", MODEL, own)]
    for path in sorted(run_dir.glob("predictions-*.csv")):
        name = path.stem.removeprefix("predictions-")
        known = read_predictions(path)
        if known.files != own.files or known.classes != own.classes:
            raise DataError(
                f"{path}: other images or classes than predictions.csv beside it; expected the "
                "same test set; delete the file of an older run"
            )
        title = "Pooled" if name == "pooled" else f"{name.removeprefix('alone-')} alone"
        readers.append(_reader(title, BASELINE, known))
    readers[1:] = sorted(readers[1:], key=lambda reader: reader.name == "Pooled")
    return Panel(own.files, own.patients, own.labels, own.classes, tuple(readers))


def _reader(name: str, kind: str, known: Predictions) -> Reader:
    return Reader(name, kind, known.probabilities.argmax(axis=1), known.probabilities)


def _interval(figures: ReaderFigures, key: str) -> Interval:
    found: Interval | None = getattr(figures, key)
    return found or Interval(None, note="not defined on these images")


def _intervals(values: dict[str, Any]) -> dict[str, dict[str, Interval]]:
    return {
        name: {key: Interval(**one) for key, one in figures.items()}
        for name, figures in values.items()
    }
