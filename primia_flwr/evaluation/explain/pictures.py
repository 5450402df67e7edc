"""Test images that a report draws masks on: `saliency/line-<n>.png`, by line of predictions.csv.

They are as sensitive as the test set, and for their owner only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from primia_flwr.errors import DataError
from primia_flwr.evaluation.explain.cases import Picture, drawing_into, read_picture
from primia_flwr.storage.reading import reading


def write_pictures(folder: Path, pictures: Mapping[int, Picture]) -> None:
    """Write the images (S, S) or (S, S, 3), by their row from 0, and remove others.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    with drawing_into(folder):
        for old in folder.glob("line-*.png"):
            old.unlink()
        for row, picture in pictures.items():
            Image.fromarray(picture).save(folder / f"line-{row + 1}.png")


def read_pictures(folder: Path) -> dict[int, Picture]:
    """Return the images by row, none where there is no folder.

    Raises
    ------
    DataError
        If a file is damaged, or its name has no line.
    """
    expected = "the folder as the run wrote it; remove it for a report without images"
    found = {}
    for path in sorted(folder.glob("line-*.png")):
        with reading(path, error=DataError, expected=expected):
            found[int(path.stem.removeprefix("line-")) - 1] = read_picture(path)
    return found
