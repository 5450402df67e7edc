"""Frames are cut where they begin: of a DICOM file, and of a picture of them side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.check import examine
from primia_flwr.data.dataset import load_pooled
from primia_flwr.data.files.frames import single_frames
from primia_flwr.data.files.images import decode
from primia_flwr.data.files.sequences import decode_sequence, one_picture
from primia_flwr.data.files.unlabelled import Unlabelled
from primia_flwr.data.reading.any_layout import read_manifest
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


GREYS = np.array([0, 100, 200], np.uint8)


def strip(path: Path, *, frames: int = 3, height: int = 16, width: int = 16, mark: int = 0) -> Path:
    """Write frames side by side, each of one level, but for a mark in the first corner."""
    pixels = np.tile(np.resize(GREYS, frames).repeat(width), (height, 1))
    pixels[0, 0] = mark
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_is_cut_into_its_square_frames(tmp_path: Path) -> None:
    found = decode_sequence(strip(tmp_path / "a.png"), 3)
    assert [one.shape for one in found] == [(16, 16)] * 3
    assert [one[9, 9] for one in found] == GREYS.tolist()


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 16), (4, 16, 16), (3, 16, 17)])
def test_a_picture_of_another_number_is_refused(
    tmp_path: Path, frames: int, height: int, width: int
) -> None:
    """One square image is not cut into three slices that nobody has acquired."""
    path = strip(tmp_path / "a.png", frames=frames, height=height, width=width)
    with pytest.raises(DataError, match=f"{frames * width} x 16 pixels; expected 3 square frames"):
        decode_sequence(path, 3)


def test_a_dicom_file_has_its_own_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    made(3).save_as(path, enforce_file_format=True)
    for frame, level in zip(decode_sequence(path, 3), LEVELS, strict=True):
        low, high = level.min(), level.max()
        assert np.abs(frame - (level - low) * 255 / (high - low)).max() <= 0.5
    assert one_picture(path, 3).shape == (LEVELS[0].shape[0], 3 * LEVELS[0].shape[1])
    with pytest.raises(DataError, match=r"a.dcm: has 3 frames; expected 5, as data.frames says"):
        decode_sequence(path, 5)


def test_what_is_wrong_with_a_frame_is_said_of_its_file(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.dcm", made(3)
    cut.PixelData = cut.PixelData[:-64]
    cut.save_as(path, enforce_file_format=True)
    with pytest.raises(DataError, match=f"^{path}"):
        decode_sequence(path, 3)


def test_frames_become_channels_in_training_and_for_a_clinic(tmp_path: Path) -> None:
    for number in range(12):
        folder = tmp_path / ("ill", "well")[number % 2] / f"p{number:02}"
        folder.mkdir(parents=True)
        strip(folder / "a.png", height=32, width=32, mark=20 * number)
    cfg = DataConfig(
        layout="folder", root=str(tmp_path), frames=3, image_size=16, test_fraction=0.0,
        cache_dir=str(tmp_path / "cache"), workers=1,
    )  # fmt: skip
    train = load_pooled(cfg, seed=0, num_sites=1).train
    images = train.images
    assert images.shape[1:] == (3, 16, 16)
    assert torch.equal(images[:, :, 3, 3], torch.from_numpy(GREYS).expand(len(images), 3))
    one = Unlabelled((), tmp_path, 16, "squash", 3, 3).load(tmp_path / train.files[0])
    assert torch.equal(one, images[0])
    sound = [fact.problem for fact in examine(read_manifest(cfg, seed=0), frames=3)]
    assert sound == [""] * 12
