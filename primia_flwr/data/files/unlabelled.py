"""Images without labels, one at a time: what a clinician asks about."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from primia_flwr.data.files.images import decode, resize
from primia_flwr.data.files.listing import image_files
from primia_flwr.data.files.sequences import decode_sequence, resize_each
from primia_flwr.errors import DataError


@dataclass(frozen=True)
class Unlabelled:
    """Image files below one folder, or one file, and how to prepare them.

    `size` in pixels, `mode` as in `data.resize`, 1 or 3 `channels`; or as many as the `frames` of
    a sequence.
    """

    files: tuple[Path, ...]
    root: Path
    size: int
    mode: str
    channels: int
    frames: int = 1

    def name(self, file: Path) -> str:
        """Return a file's path below the root."""
        return file.relative_to(self.root).as_posix()

    def load(self, file: Path) -> Tensor:
        """Return a file's image as in training: (channels, size, size) uint8.

        Raises
        ------
        DataError
            If it cannot be decoded, or is no sequence of so many frames.
        """
        if self.frames > 1:
            frames = decode_sequence(file, self.frames)
            return torch.from_numpy(resize_each(frames, self.size, mode=self.mode))
        pixels = decode(file, at_least=self.size)
        return torch.from_numpy(
            resize(pixels, self.size, mode=self.mode, channels=self.channels).copy()
        )


def find_images(root: str) -> tuple[Path, tuple[Path, ...]]:
    """Return a folder, or the folder of a file, and the image files below it, sorted.

    Raises
    ------
    DataError
        If it does not exist, or holds no images.
    """
    path = Path(root).expanduser().resolve()
    if path.is_file():
        return path.parent, (path,)
    files = tuple(image_files(path)) if path.is_dir() else ()
    if not root or not files:
        raise DataError(
            f"data.root={root}; expected an image or a folder with images (JPEG, PNG, TIFF, "
            "DICOM), e.g. data.root=today"
        )
    return path, files
