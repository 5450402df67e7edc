"""Files that hold a sequence: a DICOM file of several frames, or one picture of them side by side.

The frames of a picture are square, so that its sides tell how many there are: a file of another
number is refused, and never cut where no frame ends.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from primia_flwr.data.files.frames import count_frames, single_frames
from primia_flwr.data.files.images import Pixels, decode, resize
from primia_flwr.errors import DataError


def decode_sequence(path: Path, frames: int) -> list[Pixels]:
    """Decode the frames of one file, in their order; each as `images.decode` has it.

    `frames`: how many there must be, at least 2.

    Raises
    ------
    DataError
        If the file cannot be decoded, or has another number of frames.
    """
    count = count_frames(path)
    if count == 1:
        return _side_by_side(path, frames)
    if count != frames:
        raise DataError(
            f"{path}: has {count} frames; expected {frames}, as data.frames says: export so many"
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            return [decode(one) for one in single_frames(path, Path(folder))]
        except DataError as error:  # the frame's own file is gone when this is read
            raise DataError(str(error).replace(folder, str(path))) from None


def _side_by_side(path: Path, frames: int) -> list[Pixels]:
    pixels = decode(path)
    height, width = pixels.shape[:2]
    if width != frames * height:
        raise DataError(
            f"{path}: has {width} x {height} pixels; expected {frames} square frames side by side, "
            f"{frames * height} x {height}, or a DICOM file of {frames} frames: a model of "
            "sequences has one number of frames"
        )
    return np.split(pixels, frames, axis=1)


def resize_each(frames: Sequence[Pixels], size: int, *, mode: str) -> Pixels:
    """Bring frames to a square of `size` in grey: (frames, size, size) uint8.

    `mode`: as `images.resize` has it.
    """
    grey = [resize(np.ascontiguousarray(one), size, mode=mode, channels=1) for one in frames]
    return np.concatenate(grey)


def one_picture(path: Path, frames: int) -> Pixels:
    """Decode the frames of one file, side by side: (H, frames * W) uint8, or with three colours."""
    found = decode_sequence(path, frames)
    if len({one.shape for one in found}) > 1:
        raise DataError(f"{path}: has frames in grey and in colour; expected one kind")
    return np.concatenate(found, axis=1)
