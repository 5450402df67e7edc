"""predictions.csv of a classification, written from plain lists and read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.config.rows import TASKS
from primia_flwr.evaluation.predictions import read_predictions, write_predictions
from primia_flwr.tasks.predictions import Predictions

CLASSIFICATION = TASKS["classification"]


def made(
    files: Sequence[str],
    patients: Sequence[str],
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
) -> Predictions:
    """What a classifier made of images."""
    y, p = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    return Predictions(tuple(files), tuple(patients), y, p, tuple(classes))


def write(
    path: Path,
    files: Sequence[str],
    patients: Sequence[str],
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
) -> None:
    """Write what a classifier made of images."""
    write_predictions(
        path, made(files, patients, labels, probabilities, classes), CLASSIFICATION.judge
    )


def read(path: Path) -> Predictions:
    """Read what a classifier made of images."""
    return read_predictions(path, CLASSIFICATION.judge)
