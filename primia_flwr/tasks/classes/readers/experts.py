"""Human readers from a CSV `file,reader,label`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from primia_flwr.config.checks import nearest
from primia_flwr.errors import DataError
from primia_flwr.tasks.classes.readers.panel import EXPERT, Panel, Reader
from primia_flwr.tasks.image_csv import read_lines, row_of, shown

COLUMNS = ("file", "reader", "label")


def join_experts(panel: Panel, path: Path) -> tuple[Panel, str]:
    """Add the readers of a CSV to a panel, on the images that all readers have read.

    Returns the panel and a note in words, empty where everybody has read every image.

    Raises
    ------
    DataError
        If the file cannot be read, a line names an unknown image or class or repeats an
        image of a reader, or no image is read by all.
    """
    read = read_experts(path, panel.files, panel.classes)
    common = sorted(set.intersection(*(set(rows) for rows in read.values())))
    if not common:
        raise DataError(f"{path}: no image is read by all of {', '.join(read)}; expected some")
    rows = np.array(common, np.int64)
    readers = [
        Reader(name, EXPERT, np.array([labels[row] for row in common], np.int64), None, path.name)
        for name, labels in read.items()
    ]
    note = ""
    if len(common) < len(panel):
        counts = ", ".join(f"{name} {len(labels)}" for name, labels in read.items())
        note = (
            f"All figures are on the {len(common)} of {len(panel)} images that every reader has "
            f"read (read: {counts})."
        )
    return panel.select(rows).joined(readers), note


def read_experts(
    path: Path, files: Sequence[str], classes: Sequence[str]
) -> dict[str, dict[int, int]]:
    """Return for each reader, in order of appearance, image index -> class index.

    Raises
    ------
    DataError
        If the file cannot be read, has other columns or no line, or a line names an unknown
        image or class, no reader, or an image that its reader has named before.
    """
    image = {file: row for row, file in enumerate(files)}
    found: dict[str, dict[int, int]] = {}
    header, lines = read_lines(path)
    if tuple(header) != COLUMNS:
        raise DataError(
            f"{path}: first line is {shown(header)}; expected {','.join(COLUMNS)}: rename the "
            "columns"
        )
    for number, (file, reader, label) in lines:
        row = row_of(path, number, file, image)
        if label not in classes:
            raise DataError(
                f"{path}, line {number}: label={label!r:.80}; expected one of {', '.join(classes)}"
                f"{nearest(label, classes)}"
            )
        if not reader:
            raise DataError(f"{path}, line {number}: reader is empty; expected a name, e.g. r1")
        if row in found.setdefault(reader, {}):
            raise DataError(
                f"{path}, line {number}: {reader} has read {file} before; expected one line for "
                "each image of a reader: remove one of the two"
            )
        found[reader][row] = list(classes).index(label)
    return found
