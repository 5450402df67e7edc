"""DICOM segmentations: the numbers of segments are a mask's values, of their own image only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.check import check_data
from primia_flwr.data.dataset import load_own_site
from primia_flwr.data.files.masks import decode_mask
from primia_flwr.errors import DataError, MissingExtraError
from tests.data.files.segments.writing import KINDS, write_image, write_segments
from tests.test_extras import hide

# Rows of pixels: outside, lung, lesion.
MASK = np.array([[0, 1, 2, 0], [0, 1, 2, 2], [0, 1, 0, 0]], np.uint8)
OTHER = np.array([[2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.uint8)
VALUES, CLASSES = (0, 1, 2), ("background", "lung", "lesion")


def decoded(mask: Path, image: Path) -> list[list[int]]:
    return decode_mask(mask, VALUES, image=image, classes=CLASSES).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_segments_are_the_values(tmp_path: Path, kind: str) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    mask = write_segments(tmp_path / "a.seg", [image], MASK, kind=kind)
    assert decoded(mask, image) == MASK.tolist()
    assert decode_mask(mask, (1, 0, 2), image=image).tolist() == [
        [1, 0, 2, 1],
        [1, 0, 2, 2],
        [1, 0, 1, 1],
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_series_each_image_has_its_own_pixels(tmp_path: Path, kind: str) -> None:
    images = [write_image(tmp_path / f"{n}.dcm", MASK.shape, name=n) for n in "123"]
    empty = np.zeros_like(MASK)
    mask = write_segments(tmp_path / "m", images, np.stack([MASK, empty, OTHER]), kind=kind)
    assert [decoded(mask, image) for image in images] == [
        MASK.tolist(), empty.tolist(), OTHER.tolist()
    ]  # fmt: skip


def test_a_deflated_one_is_read(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    mask = write_segments(tmp_path / "m", [image], MASK)
    dataset = dcmread(mask)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(mask)
    assert decoded(mask, image) == MASK.tolist()


def test_beside_an_image_that_is_no_dicom_file_one_reference_is_needed(tmp_path: Path) -> None:
    images = [write_image(tmp_path / f"{n}.dcm", MASK.shape, name=n) for n in "12"]
    png = tmp_path / "a.png"
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(png)
    assert decoded(write_segments(tmp_path / "m", images[:1], MASK), png) == MASK.tolist()
    several = write_segments(tmp_path / "n", images, np.stack([MASK, OTHER]))
    with pytest.raises(DataError, match=r"belongs to 2 images, and 'a\.png' does not say which"):
        decoded(several, png)


def test_one_of_another_image_is_refused(tmp_path: Path) -> None:
    first, second = (write_image(tmp_path / f"{n}.dcm", MASK.shape, name=n) for n in "12")
    mask = write_segments(tmp_path / "m", [first], MASK)
    with pytest.raises(DataError, match=r"belongs to 1 other image\(s\); expected one of '2\.dcm'"):
        decoded(mask, second)


def test_segments_that_overlap_are_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    both = np.stack([MASK > 0, MASK == 2], axis=-1)[None].astype(np.uint8)
    with pytest.raises(DataError, match="two segments overlap; expected one class a pixel"):
        decoded(write_segments(tmp_path / "m", [image], both), image)


def test_one_that_numbers_the_classes_otherwise_is_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    mask = write_segments(tmp_path / "m", [image], MASK, labels=("Lesion", "lung"))
    with pytest.raises(DataError, match=r"segment 1 is called 'Lesion'.* as the value 2"):
        decoded(mask, image)
    found = decode_mask(mask, (0, 2, 1), image=image, classes=CLASSES)
    assert found.tolist() == [[0, 2, 1, 0], [0, 2, 1, 1], [0, 2, 0, 0]]


def test_a_number_that_is_no_class_is_named(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    mask = write_segments(tmp_path / "m", [image], MASK)
    with pytest.raises(DataError, match="the mask has the value 2; expected one of"):
        decode_mask(mask, (0, 1), image=image)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    with pytest.raises(DataError, match=r"a\.dcm: a DICOM file that is no segmentation"):
        decoded(image, image)
    shares = np.stack([MASK == 1, MASK == 2], axis=-1)[None] / 2
    fractional = write_segments(tmp_path / "f", [image], shares, kind="FRACTIONAL")
    with pytest.raises(DataError, match="SegmentationType is 'FRACTIONAL'; expected BINARY"):
        decoded(fractional, image)
    mask = write_segments(tmp_path / "m", [image], MASK)
    dataset = dcmread(mask)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    dataset["PixelData"].VR, dataset.PixelData = "OB", b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(mask)
    with pytest.raises(DataError, match="expected an uncompressed or deflated segmentation"):
        decoded(mask, image)


@pytest.mark.parametrize(("keyword", "value"), [("NumberOfFrames", 1 << 30), ("Rows", 0)])
def test_what_no_memory_could_hold_is_refused(tmp_path: Path, keyword: str, value: int) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    mask = write_segments(tmp_path / "m", [image], MASK)
    dataset = dcmread(mask)
    setattr(dataset, keyword, value)
    dataset.save_as(mask)
    with pytest.raises(DataError, match="m: claims"):
        decoded(mask, image)


def test_without_its_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "a.dcm", MASK.shape)
    mask = write_segments(tmp_path / "m", [image], MASK)
    hide(monkeypatch, "highdicom")
    with pytest.raises(MissingExtraError, match=r"pip install 'primia-flwr\[segmentations\]'"):
        decoded(mask, image)


def test_a_folder_of_pairs_is_read_and_checked(tmp_path: Path) -> None:
    for number in range(1, 7):
        image = write_image(
            tmp_path / f"images/{number}.dcm", (16, 16), name=str(number), patient=f"p{number}"
        )
        pixels = np.zeros((16, 16), np.uint8)
        pixels[number, :number] = 1
        write_segments(tmp_path / f"masks/{number}.dcm", [image], pixels, labels=("lesion",))
    cfg = DataConfig(
        layout="paired", task="segmentation", root=str(tmp_path), image_size=16,
        classes=("background", "lesion"), cache_dir=str(tmp_path / "cache"),
        test_fraction=0.0, val_fraction=0.17,
    )  # fmt: skip
    assert check_data(cfg, seed=1).unreadable == {}
    site = load_own_site(cfg, name="a", seed=1)
    assert len(site.train) + len(site.val) == 6
    write_segments(
        tmp_path / "masks/6.dcm", [tmp_path / "images/5.dcm"], pixels, labels=("lesion",)
    )
    (problem,) = check_data(cfg, seed=1).unreadable.values()
    assert "masks/6.dcm: the segmentation belongs to 1 other image(s)" in problem
