"""Frames of a DICOM file are cut where they begin, whatever stands around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from primia_flwr.data.files.frames import single_frames
from primia_flwr.data.files.images import decode
from primia_flwr.errors import DataError
from tests.data.files.test_compressed import jpeg
from tests.data.files.variants import dataset, picture, set_pixels

LEVELS = [picture(top=top) for top in (4095, 2000, 900)]


def made(count: int = 3) -> FileDataset:
    """Return 12 bits of several frames."""
    found = dataset()
    set_pixels(found, LEVELS[0], allocated=16, stored=12)
    found.PixelData = b"".join(level.astype("<u2").tobytes() for level in LEVELS[:count])
    found.NumberOfFrames = count
    return found


def shown(found: FileDataset, folder: Path) -> list[np.ndarray]:
    found.save_as(folder / "all.dcm", enforce_file_format=True)
    return [decode(frame) for frame in single_frames(folder / "all.dcm", folder)]


@pytest.mark.parametrize("beyond", [0, 6, 600])
def test_bytes_after_the_frames_do_not_shift_them(tmp_path: Path, beyond: int) -> None:
    found = made()
    found.PixelData += bytes(beyond)
    for frame, level in zip(shown(found, tmp_path), LEVELS, strict=True):
        low, high = level.min(), level.max()
        assert np.abs(frame - (level - low) * 255 / (high - low)).max() <= 0.5


def test_floats_stay_floats(tmp_path: Path) -> None:
    found = made(2)
    del found.PixelData
    floats = [level.astype("<f4") / 7 for level in LEVELS[:2]]
    found.BitsAllocated = 32
    found.FloatPixelData = b"".join(level.tobytes() for level in floats)
    for frame, level in zip(shown(found, tmp_path), floats, strict=True):
        low, high = level.min(), level.max()
        assert np.abs(frame - (level - low) * 255 / (high - low)).max() <= 0.51


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", ["none", "right", "wrong"])
def test_the_table_of_offsets_is_not_believed(tmp_path: Path, fragments: int, table: str) -> None:
    found = dataset()
    eight = [(level >> 4).astype(np.uint8) for level in LEVELS]
    set_pixels(found, eight[0].astype(int), allocated=8, stored=8)
    found.NumberOfFrames, found.file_meta.TransferSyntaxUID = 3, JPEGBaseline8Bit
    streams = [jpeg(level) for level in eight]
    content = bytearray(
        encapsulate(streams, fragments_per_frame=fragments, has_bot=table != "none")
    )
    if table == "wrong":
        content[12:16] = (99_999).to_bytes(4, "little")
    found.PixelData = bytes(content)
    found["PixelData"].VR, found["PixelData"].is_undefined_length = "OB", True
    frames = shown(found, tmp_path)
    for frame, level in zip(frames, eight, strict=True):
        low, high = int(level.min()), int(level.max())
        assert np.abs(frame - (level.astype(float) - low) * 255 / (high - low)).max() <= 6


@pytest.mark.parametrize(
    ("count", "groups", "says"),
    [(4, 0, "are not 4 frames"), (2, 0, "are not 2 frames"), (3, 2, "describes 2 frames, and has")],
)
def test_frames_that_are_not_as_many(tmp_path: Path, count: int, groups: int, says: str) -> None:
    found = made()
    found.NumberOfFrames = count
    if groups:
        found.PerFrameFunctionalGroupsSequence = Sequence([Dataset() for _ in range(groups)])
    with pytest.raises(DataError, match=rf"all\.dcm cannot be read \(.*{says}"):
        shown(found, tmp_path)
