"""What models made of the same images, whatever their task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import IntArray

MODEL, BASELINE = "model", "baseline"


@dataclass(frozen=True)
class Predictions:
    """N images: `labels` (N, ...) and a model's `outputs` (N, ...), as its task has them.

    Of a classification: indices (N,) into `names`, and probabilities (N, C). Of a segmentation:
    masks (N, H, W) both. `names` are those of the outputs. `pictures`: images that may be shown, by
    row: (S, S) or (S, S, 3) uint8.
    """

    files: tuple[str, ...]
    patients: tuple[str, ...]
    labels: npt.NDArray[Any]
    outputs: npt.NDArray[Any]
    names: tuple[str, ...]
    pictures: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def numbered(self) -> Predictions:
        """Name patients by the order in which they come, so that no figure depends on a key."""
        number: dict[str, str] = {}
        for patient in self.patients:
            number.setdefault(patient, f"{len(number):07d}")
        return replace(self, patients=tuple(number[patient] for patient in self.patients))

    def select(self, rows: IntArray) -> Predictions:
        """Keep the images at `rows`, in that order."""
        return replace(
            self,
            files=tuple(self.files[int(row)] for row in rows),
            patients=tuple(self.patients[int(row)] for row in rows),
            labels=self.labels[rows],
            outputs=self.outputs[rows],
            pictures={},
        )


@dataclass(frozen=True)
class Reading:
    """A model's predictions in a comparison: `kind` is model or baseline, `origin` says whence."""

    name: str
    kind: str
    origin: str
    predictions: Predictions


def by_file(who: str, predictions: Predictions) -> Predictions:
    """Return predictions sorted by file, their patients numbered.

    Raises
    ------
    DataError
        If an image occurs twice.
    """
    if len(set(predictions.files)) != len(predictions):
        raise DataError(f"{who}: an image occurs twice in its predictions; expected each once")
    order = sorted(range(len(predictions)), key=predictions.files.__getitem__)
    return predictions.select(np.array(order, np.int64)).numbered()


def difference_of(first: Predictions, second: Predictions) -> str:
    """Return how two models' images differ, in words; nothing where they are the same."""
    if first.files != second.files:
        shared = len(set(first.files) & set(second.files))
        return f"{len(first)} and {len(second)} images, of which {shared} are shared"
    if first.patients != second.patients:
        return "the same files of other patients"
    if not np.array_equal(first.labels, second.labels):
        return "the same files with other labels"
    return ""
