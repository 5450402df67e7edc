"""Files that hold a sequence: cut where frames end, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.check import examine
from primia_flwr.data.dataset import load_pooled
from primia_flwr.data.files.sequences import decode_sequence, one_picture
from primia_flwr.data.files.unlabelled import Unlabelled
from primia_flwr.data.reading.any_layout import read_manifest
from primia_flwr.errors import DataError
from tests.data.files.test_frames import LEVELS, made

LEVEL = np.array([0, 100, 200], np.uint8)


def strip(path: Path, *, frames: int = 3, height: int = 16, width: int = 16, mark: int = 0) -> Path:
    """Write frames side by side, each of one level, but for a mark in the first corner."""
    pixels = np.tile(np.resize(LEVEL, frames).repeat(width), (height, 1))
    pixels[0, 0] = mark
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_is_cut_into_its_square_frames(tmp_path: Path) -> None:
    found = decode_sequence(strip(tmp_path / "a.png"), 3)
    assert [one.shape for one in found] == [(16, 16)] * 3
    assert [one[9, 9] for one in found] == LEVEL.tolist()


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
    assert torch.equal(images[:, :, 3, 3], torch.from_numpy(LEVEL).expand(len(images), 3))
    one = Unlabelled((), tmp_path, 16, "squash", 3, 3).load(tmp_path / train.files[0])
    assert torch.equal(one, images[0])
    sound = [fact.problem for fact in examine(read_manifest(cfg, seed=0), frames=3)]
    assert sound == [""] * 12
