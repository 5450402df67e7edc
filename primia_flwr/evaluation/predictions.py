"""`predictions.csv`: one line an image, written whole or not at all, read back exactly."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.errors import DataError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading, reason_of
from primia_flwr.tasks.judge import Judge
from primia_flwr.tasks.predictions import Predictions

_FIXED = ("file", "patient")
_MAX_BYTES = 1 << 28


def write_predictions(path: Path, made: Predictions, judge: Judge) -> None:
    """Write one line per image: file, patient, and the columns of the task.

    Numbers are written with all their digits, so that figures computed from the file equal those
    computed in the run. The file appears complete or not at all, for its owner only.

    Raises
    ------
    DataError
        If the lengths do not fit together or a label is none of the task's.
    """
    sizes = {len(part) for part in (made.files, made.patients, made.labels, made.outputs)}
    if len(sizes) > 1:
        raise DataError(
            f"{path}: {len(made.files)} files, {len(made.patients)} patients, {len(made.labels)} "
            f"labels, {len(made.outputs)} outputs; expected one of each per image"
        )
    text = io.StringIO(newline="")
    writer = plain_csv.writer(text)
    writer.writerow([*_FIXED, *judge.columns(made.names)])
    lines = zip(made.files, made.patients, made.labels, made.outputs, strict=True)
    try:
        writer.writerows(
            [file, patient, *judge.cells(label, output, made.names)]
            for file, patient, label, output in lines
        )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    write_atomic(path, text.getvalue(), mode=PRIVATE)


def read_predictions(path: Path, judge: Judge) -> Predictions:
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
    names = _names(path, header, judge)
    parsed = [_parse(path, at, line, names, judge) for at, line in enumerate(lines, start=2)]
    return Predictions(
        files=tuple(line[0] for line in lines),
        patients=tuple(line[1] for line in lines),
        labels=np.array([label for label, _ in parsed], None if parsed else np.int64),
        outputs=_outputs([output for _, output in parsed], len(names), judge),
        names=names,
    )


def _outputs(outputs: Sequence[Any], names: int, judge: Judge) -> npt.NDArray[Any]:
    return np.array(outputs or np.empty((0, names)), judge.output_type)


def _names(path: Path, header: Sequence[str], judge: Judge) -> tuple[str, ...]:
    try:
        if tuple(header[: len(_FIXED)]) != _FIXED:
            raise ValueError(",".join(judge.columns(())))
        return judge.names_of(header[len(_FIXED) :])
    except ValueError as error:
        raise DataError(
            f"{path}: columns {printable(','.join(header), limit=120)}; expected "
            f"file,patient,{error}"
        ) from None


def _parse(
    path: Path, number: int, line: Sequence[str], names: tuple[str, ...], judge: Judge
) -> tuple[Any, Any]:
    cells, wanted = line[len(_FIXED) :], len(judge.columns(names))
    try:
        if len(cells) != wanted or len(line) < len(_FIXED):
            raise ValueError(
                f"{len(line)} columns instead of {len(_FIXED) + wanted}; expected as many as the "
                "first line has"
            )
        return judge.read_cells(cells, names)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {reason_of(error)}") from None
