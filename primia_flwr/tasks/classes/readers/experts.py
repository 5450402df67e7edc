"""Human readers from a CSV `file,reader,label`, and groups of images from `file,<column>`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from primia_flwr.config.checks import nearest
from primia_flwr.errors import DataError
from primia_flwr.statistics.arrays import IntArray
from primia_flwr.storage import plain_csv
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading
from primia_flwr.tasks.panel import EXPERT, Panel, Reader

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
    header, lines = _lines(path)
    if tuple(header) != COLUMNS:
        raise DataError(
            f"{path}: first line is {_shown(header)}; expected {','.join(COLUMNS)}: rename the "
            "columns"
        )
    for number, (file, reader, label) in lines:
        row = _image(path, number, file, image)
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


def read_groups(path: Path, files: Sequence[str]) -> tuple[str, IntArray, tuple[str, ...]]:
    """Read a CSV `file,<column>` that puts images into groups.

    Returns the column's name, the group of each image (N,), -1 where none is given, and the
    groups' names, sorted.

    Raises
    ------
    DataError
        If the file cannot be read, has other columns or no line, or a line names an unknown or
        a repeated image.
    """
    image = {file: row for row, file in enumerate(files)}
    header, lines = _lines(path)
    if len(header) != 2 or header[0] != "file" or not header[1]:
        raise DataError(
            f"{path}: first line is {_shown(header)}; expected file,<name of the groups>, e.g. "
            "file,scanner"
        )
    found: dict[int, str] = {}
    for number, (file, group) in lines:
        row = _image(path, number, file, image)
        if row in found:
            raise DataError(f"{path}, line {number}: {file} occurs twice; expected each image once")
        if group:
            found[row] = group
    names = tuple(sorted(set(found.values())))
    groups = [names.index(found[row]) if row in found else -1 for row in range(len(files))]
    return header[1], np.array(groups, np.int64), names


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the first line, and the number and cells of every later one that is not empty."""
    expected = "a CSV file in UTF-8, separated by commas"
    with reading(path, error=DataError, expected=expected):
        text = read_text(path).removeprefix("\ufeff")
        reader = plain_csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if len(rows) < 2:
        raise DataError(f"{path} has no lines; expected a first line with names and one an image")
    header = rows[0][1]
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {number}: {len(cells)} columns; expected {len(header)}, "
                f"{_shown(header)}"
            )
    return header, rows[1:]


def _shown(cells: Sequence[str]) -> str:
    return printable(",".join(cells), limit=120)


def _image(path: Path, number: int, file: str, image: dict[str, int]) -> int:
    if file in image:
        return image[file]
    raise DataError(
        f"{path}, line {number}: file={file!r:.200} is not among the {len(image)} images; "
        f"expected a path as in predictions.csv, e.g. {next(iter(image), '')}"
    )
