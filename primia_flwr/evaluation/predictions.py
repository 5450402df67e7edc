"""`predictions.csv`: one line an image, written whole or not at all, read back exactly."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import write_atomic
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading, reason_of
from primia_flwr.tasks.panel import Predictions

_FIXED = ("file", "patient", "label", "prediction")
_PREFIX = "p_"
_MAX_BYTES = 1 << 28


def write_predictions(
    path: Path,
    files: Sequence[str],
    patients: Sequence[str],
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
) -> None:
    """Write one line per image: file, patient, true class, predicted class, probabilities.

    Probabilities are written with all their digits, so that figures computed from the file
    equal those computed in the run. The file appears complete or not at all.

    Raises
    ------
    DataError
        If the lengths do not fit together or a label is not an index into `classes`.
    """
    y, p = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    if not (len(files) == len(patients) == len(y)) or p.shape != (len(y), len(classes)):
        raise DataError(
            f"{path}: {len(files)} files, {len(patients)} patients, {len(y)} labels, probabilities "
            f"{p.shape} for {len(classes)} classes; expected one of each per image"
        )
    if len(y) and (y.min() < 0 or y.max() >= len(classes)):
        raise DataError(f"{path}: a label is outside 0 to {len(classes) - 1}; expected an index")
    text = io.StringIO(newline="")
    writer = plain_csv.writer(text)
    writer.writerow([*_FIXED, *(_PREFIX + name for name in classes)])
    for file, patient, label, row in zip(files, patients, y, p, strict=True):
        names = (classes[label], classes[int(row.argmax())])
        writer.writerow([file, patient, *names, *map(float, row)])
    write_atomic(path, text.getvalue())


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises
    ------
    DataError
        If the file is missing, has other columns, or a line cannot be read.
    """
    expected = "a predictions.csv with a header line; write it again with primia evaluate"
    with reading(path, error=DataError, expected=expected):
        text = read_text(path, at_most=_MAX_BYTES)
        header, *lines = list(plain_csv.reader(io.StringIO(text, newline="")))
    classes = _classes(path, header)
    parsed = [_parse(path, number, line, classes) for number, line in enumerate(lines, start=2)]
    return Predictions(
        files=tuple(line[0] for line in lines),
        patients=tuple(line[1] for line in lines),
        labels=np.array([label for label, _ in parsed], np.int64),
        probabilities=np.array([p for _, p in parsed], np.float64).reshape(-1, len(classes)),
        classes=classes,
    )


def _classes(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    names = header[len(_FIXED) :]
    if tuple(header[: len(_FIXED)]) != _FIXED or not names or any(n[:2] != _PREFIX for n in names):
        raise DataError(
            f"{path}: columns {printable(','.join(header), limit=120)}; expected "
            f"{','.join(_FIXED)} and one p_<class> column a class"
        )
    return tuple(name[len(_PREFIX) :] for name in names)


def _parse(
    path: Path, number: int, line: Sequence[str], classes: tuple[str, ...]
) -> tuple[int, list[float]]:
    try:
        if len(line) != len(_FIXED) + len(classes):
            raise ValueError(f"{len(line)} columns instead of {len(_FIXED) + len(classes)}")
        return classes.index(line[2]), [float(value) for value in line[len(_FIXED) :]]
    except ValueError as error:
        raise DataError(
            f"{path}, line {number}: {reason_of(error)}; expected a label among "
            f"{printable(', '.join(classes), limit=200)} and one probability a class"
        ) from None
