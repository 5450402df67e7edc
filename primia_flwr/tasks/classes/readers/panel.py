"""Several readers of the same images: models with probabilities, people with a class an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import FloatArray, IntArray
from primia_flwr.tasks.predictions import Predictions, Reading

EXPERT = "expert"
_MIN_IMAGES = 10


@dataclass(frozen=True)
class Reader:
    """One column of the tables.

    `predicted` (N,) are indices of classes, `probabilities` (N, C) None for a person. `kind` is
    model, baseline or expert, and `origin` says in words where the classes come from.
    """

    name: str
    kind: str
    predicted: IntArray
    probabilities: FloatArray | None = None
    origin: str = ""

    def select(self, rows: IntArray) -> Reader:
        """Keep the images at `rows`."""
        kept = None if self.probabilities is None else self.probabilities[rows]
        return replace(self, predicted=self.predicted[rows], probabilities=kept)


@dataclass(frozen=True)
class Panel:
    """N images of known class, with what each reader made of them."""

    files: tuple[str, ...]
    patients: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]
    readers: tuple[Reader, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def units(self) -> IntArray:
        """Return the patient of each image as a number, (N,)."""
        return np.unique(np.asarray(self.patients), return_inverse=True)[1].astype(np.int64)

    @property
    def num_patients(self) -> int:
        """Return how many patients the images are of."""
        return len(set(self.patients))

    def select(self, rows: IntArray) -> Panel:
        """Keep the images at `rows`, in that order."""
        return Panel(
            tuple(self.files[int(row)] for row in rows),
            tuple(self.patients[int(row)] for row in rows),
            self.labels[rows],
            self.classes,
            tuple(reader.select(rows) for reader in self.readers),
        )

    def joined(self, readers: Sequence[Reader]) -> Panel:
        """Add readers of the same images.

        Raises
        ------
        DataError
            If two readers have the same name.
        """
        everybody = (*self.readers, *readers)
        names = [reader.name for reader in everybody]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(
                f"{len(names)} readers, two of which are called {twice[0]}; expected different "
                "names: give the runs others with names=[...], or rename the reader in the CSV"
            )
        return replace(self, readers=everybody)


def panel_of(readings: Sequence[Reading]) -> Panel:
    """Return the panel of models that read the same images, in the same order.

    Raises
    ------
    DataError
        If two have the same name.
    """
    first = readings[0].predictions
    readers = [
        Reader(one.name, one.kind, p.argmax(axis=1).astype(np.int64), p, one.origin)
        for one, p in ((one, one.predictions.outputs) for one in readings)
    ]
    return Panel(first.files, first.patients, first.labels, first.names, ()).joined(readers)


def aligned(who: str, predictions: Predictions, classes: Sequence[str]) -> Predictions:
    """Return predictions with the classes in a given order.

    Raises
    ------
    DataError
        If its classes are others.
    """
    if sorted(predictions.names) != sorted(classes):
        raise DataError(
            f"{who}: classes {', '.join(predictions.names)}; expected those of the first run, "
            f"{', '.join(classes)}; compare models of the same classes"
        )
    columns = [predictions.names.index(one) for one in classes]
    position = np.argsort(np.array(columns))  # of the model's index in the common order
    labels = position[predictions.labels].astype(np.int64)
    outputs = predictions.outputs[:, columns]
    return replace(predictions, labels=labels, outputs=outputs, names=tuple(classes))


def check_size(panel: Panel) -> None:
    """Refuse a panel that no statistic can be computed on.

    Raises
    ------
    DataError
        If there are fewer than 10 images, or all are of one class.
    """
    if len(panel) < _MIN_IMAGES or len(np.unique(panel.labels)) < 2:
        raise DataError(
            f"{len(panel)} images of {len(np.unique(panel.labels))} class(es) are read by all; "
            f"expected at least {_MIN_IMAGES} of at least 2 classes: name more data, or readers "
            "of more images"
        )
