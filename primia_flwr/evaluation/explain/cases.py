"""The cases that a run explains, on disk: `saliency/cases.json` and two pictures a case.

`case-01.png` is the image as the model saw it, `case-01-map.png` its Grad-CAM map in grey, white
where the map is strongest. These are images of the test set: they are as sensitive as it is,
and for their owner only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from primia_flwr.errors import DataError
from primia_flwr.storage.atomic import make_folder, only_for_owner, write_result
from primia_flwr.storage.reading import parse_json, read_bytes, read_text, reading

FOLDER, FILE = "saliency", "cases.json"
Picture = npt.NDArray[np.uint8]
_LARGEST_SIDE = 4096
ENOUGH_CELLS = 7
"""Along a side: a map of fewer says little more than which quarter, and is not drawn."""


@dataclass(frozen=True)
class ExplainedCase:
    """One image and what the model made of it.

    `row`: its line in predictions.csv, 1 for the first image. `label`, `predicted`: names of
    classes; `confidence` in (0, 1]. `image`: (S, S) or (S, S, 3); `heat`: (S, S), 255 where the
    map is strongest. Of a sequence both are (S, T * S), its T frames side by side.
    """

    row: int
    label: str
    predicted: str
    confidence: float
    image: Picture
    heat: Picture

    @property
    def right(self) -> bool:
        """Whether the model predicted the true class."""
        return self.label == self.predicted


@dataclass(frozen=True)
class Explanation:
    """All cases of one model on one set of images.

    `layer`: the module whose activations were mapped; `map_side`: cells along a side of its map;
    `origin`: which images, in words.
    """

    layer: str
    map_side: int
    origin: str
    cases: tuple[ExplainedCase, ...]


@contextmanager
def drawing_into(folder: Path) -> Iterator[None]:
    """Make a folder for the block's pictures of test images, for its owner only.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    try:
        make_folder(folder)
        yield
        only_for_owner(folder)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}); expected a writable folder "
            "with free space; make room, or run with report.saliency=0"
        ) from None


def write_cases(folder: Path, explanation: Explanation) -> None:
    """Write the pictures, then cases.json, so that the list never names what is not there.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    with drawing_into(folder):
        for old in (folder / FILE, *folder.glob("case-*.png")):
            old.unlink(missing_ok=True)
        for number, case in enumerate(explanation.cases, start=1):
            for name, picture in zip(_names(number), (case.image, case.heat), strict=True):
                Image.fromarray(picture).save(folder / name)
    write_result(folder / FILE, _to_dict(explanation))


def read_cases(folder: Path) -> Explanation | None:
    """Read what `write_cases` wrote; None where there is nothing.

    Raises
    ------
    DataError
        If a file is damaged or missing.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    expected = (
        "the folder as the run wrote it; write it again with primia evaluate run=… saliency=2"
    )
    with reading(path, error=DataError, expected=expected):
        values = parse_json(read_text(path), finite=False)
        numbered = enumerate(values["cases"], start=1)
        cases = tuple(_case(case, *_pictures(folder, number)) for number, case in numbered)
        told = (str(values["layer"]), int(values["map_side"]), str(values["origin"]))
        return Explanation(*told, cases)


def picture_of(pixels: npt.NDArray[np.uint8], *, frames: int = 1) -> Picture:
    """Turn (C, S, S) pixels, C 1 or 3, into a picture (S, S) or (S, S, 3).

    Of a sequence, whose channels are its `frames`, they stand side by side: (S, frames * S).
    """
    if frames > 1:
        return np.concatenate(pixels, axis=1)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _to_dict(explanation: Explanation) -> dict[str, Any]:
    described: Sequence[dict[str, Any]] = [
        {"row": c.row, "label": c.label, "predicted": c.predicted, "confidence": c.confidence}
        for c in explanation.cases
    ]
    return {
        "method": "Grad-CAM (Selvaraju et al. 2017), for the predicted class",
        "layer": explanation.layer,
        "map_side": explanation.map_side,
        "origin": explanation.origin,
        "cases": described,
    }


def _case(values: Mapping[str, Any], image: Picture, heat: Picture) -> ExplainedCase:
    return ExplainedCase(
        row=int(values["row"]),
        label=str(values["label"]),
        predicted=str(values["predicted"]),
        confidence=float(values["confidence"]),
        image=image,
        heat=heat,
    )


def _pictures(folder: Path, number: int) -> tuple[Picture, Picture]:
    image, heat = (read_picture(folder / name) for name in _names(number))
    if heat.ndim != 2 or image.shape[:2] != heat.shape:
        raise ValueError(f"case {number}: image {image.shape} and map {heat.shape} do not fit")
    return image, heat


def read_picture(file: Path) -> Picture:
    """Read a PNG of bounded size."""
    content = io.BytesIO(read_bytes(file))  # a file would give memory for any length it claims
    with Image.open(content, formats=("PNG",)) as image:
        if max(image.size) > _LARGEST_SIDE:
            raise ValueError(f"{file.name} has {image.width} x {image.height} pixels")
        return np.asarray(image)


def _names(number: int) -> tuple[str, str]:
    return f"case-{number:02d}.png", f"case-{number:02d}-map.png"
