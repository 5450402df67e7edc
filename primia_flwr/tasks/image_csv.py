"""CSV files with a line about each image: groups of images, and what people called them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading


def read_groups(path: Path, files: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Read a CSV `file,<column>` that puts images into groups.

    Returns the column's name, and the group of each file that has one.

    Raises
    ------
    DataError
        If the file cannot be read, has other columns or no line, or a line names an unknown or
        a repeated image.
    """
    image = {file: row for row, file in enumerate(files)}
    header, lines = read_lines(path)
    if len(header) != 2 or header[0] != "file" or not header[1]:
        raise DataError(
            f"{path}: first line is {shown(header)}; expected file,<name of the groups>, e.g. "
            "file,scanner"
        )
    found: dict[str, str] = {}
    for number, (file, group) in lines:
        row_of(path, number, file, image)
        if file in found:
            raise DataError(f"{path}, line {number}: {file} occurs twice; expected each image once")
        found[file] = group
    return header[1], {file: group for file, group in found.items() if group}


def read_lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
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
                f"{shown(header)}"
            )
    return header, rows[1:]


def shown(cells: Sequence[str]) -> str:
    """Return a line for a sentence."""
    return printable(",".join(cells), limit=120)


def row_of(path: Path, number: int, file: str, image: Mapping[str, int]) -> int:
    """Return the index of the image that a line names; a DataError where there is none."""
    if file in image:
        return image[file]
    raise DataError(
        f"{path}, line {number}: file={file!r:.200} is not among the {len(image)} images; "
        f"expected a path as in predictions.csv, e.g. {next(iter(image), '')}"
    )
