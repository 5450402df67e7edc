"""Masks that a saved model gives of images without any, as PNG files of the images' own sizes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from primia_flwr.data.files.images import Pixels, decode
from primia_flwr.data.files.listing import file_digest
from primia_flwr.data.files.masks import restore_mask
from primia_flwr.data.files.sequences import one_picture
from primia_flwr.errors import DataError
from primia_flwr.models.card import ModelCard
from primia_flwr.pipeline.unlabelled import Opinion, is_plausible
from primia_flwr.storage.atomic import PRIVATE, write_atomic, writing

_FOLDER = "masks"
_COLOURS = (
    (0, 0, 0), (79, 157, 143), (184, 98, 27), (18, 53, 91), (122, 59, 105), (138, 143, 42),
    (127, 163, 199),
)  # fmt: skip


@dataclass(frozen=True)
class MaskWriter:
    """Writes a mask of each image below `output`, and says what stands in its line of the table."""

    output: Path
    card: ModelCard

    def row(self, opinion: Opinion) -> dict[str, Any]:
        """Write the mask of one image and return its line; no mask where scores are no numbers.

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        assert opinion.scores is not None
        plausible = is_plausible(opinion.scores)
        called = opinion.scores.argmax(dim=0).numpy().astype(np.uint8)
        name = f"{_FOLDER}/{opinion.name}.png" if plausible else ""
        if plausible:
            self._write(name, self._restored(called, opinion.file))
        shares = np.bincount(called.ravel(), minlength=len(self.card.classes)) / called.size
        return {
            "file": opinion.name,
            "mask": name,
            **{
                f"share_{one}": float(share) if plausible else None
                for one, share in zip(self.card.classes, shares, strict=True)
            },
            "plausible": plausible,
            "seconds": round(opinion.seconds, 4),
            "sha256": file_digest(opinion.file),
        }

    def _restored(self, called: Pixels, file: Path) -> Pixels:
        """Return a mask of the size of its image; of frames, each of its own, side by side."""
        frames = self.card.frames
        shown = decode(file) if frames == 1 else one_picture(file, frames)
        size = (shown.shape[0], shown.shape[1] // frames)
        parts = [
            restore_mask(np.ascontiguousarray(part), size, mode=self.card.resize)
            for part in np.split(called, frames, axis=1)
        ]
        return np.concatenate(parts, axis=1)

    def _write(self, name: str, mask: Pixels) -> None:
        target = self.output / name
        remedy = "expected a folder with free space; give another one as output=<folder>"
        with writing(target, error=DataError, remedy=remedy):
            for folder in (self.output, *reversed(target.relative_to(self.output).parents[:-1])):
                (self.output / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(target, _png(mask, len(self.card.classes)), mode=PRIVATE)


def _png(mask: npt.NDArray[np.uint8], classes: int) -> bytes:
    """Return a PNG whose values are the indices of classes, with a palette to look at it."""
    image = Image.fromarray(mask)
    palette = [_COLOURS[k % len(_COLOURS)] for k in range(classes)]
    image.putpalette([channel for colour in palette for channel in colour])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
