from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from primia_flwr.data.files import dicom
from primia_flwr.data.files.dicom import read_patient
from primia_flwr.data.files.images import decode
from primia_flwr.errors import DataError


def make(path: Path, stored: np.ndarray[Any, Any], *, bits: int = 12, **fields: Any) -> Path:
    """Write a DICOM file with these stored values and extra elements."""
    return _dataset(stored, bits, fields).save_as(path, enforce_file_format=True) or path


def _dataset(stored: np.ndarray[Any, Any], bits: int, fields: dict[str, Any]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, "1.2.3.4"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 3 if stored.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if stored.ndim == 3 else "MONOCHROME2"
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


DEEP = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)


def test_without_a_window_the_range_present_is_shown(tmp_path: Path) -> None:
    assert decode(make(tmp_path / "a.dcm", DEEP)).tolist() == [[0, 64], [128, 255]]


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = make(tmp_path / "a.dcm", DEEP, PhotometricInterpretation="MONOCHROME1")
    assert decode(path).tolist() == [[255, 191], [128, 0]]


def test_window_is_applied(tmp_path: Path) -> None:
    # c = 1500.5, w = 1001: linear from 1000 (black) to 2000 (white); PS3.3 C.11.2.1.2.1
    path = make(tmp_path / "a.dcm", DEEP, WindowCenter=1500.5, WindowWidth=1001)
    assert decode(path).tolist() == [[0, 0], [255, 255]]
    middle = np.array([[1500, 1250]], dtype=np.uint16)
    path = make(tmp_path / "b.dcm", middle, WindowCenter=1500.5, WindowWidth=1001)
    assert decode(path).tolist() == [[128, 64]]


def test_window_counts_in_rescaled_values(tmp_path: Path) -> None:
    signed = np.array([[-1000, 0, 1000]], dtype=np.int16)
    path = make(
        tmp_path / "a.dcm",
        signed,
        bits=16,
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=-99.5,
        WindowWidth=4001,
    )
    assert decode(path).tolist() == [[0, 128, 255]]  # -2100 → 0, -100 → middle, 1900 → white


def test_sigmoid_window(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a.dcm",
        np.array([[1000, 2000, 3000]], dtype=np.uint16),
        WindowCenter=2000,
        WindowWidth=1000,
        VOILUTFunction="SIGMOID",
    )
    # 255 / (1 + exp(±4)) = 4.6 and 250.4
    assert decode(path).tolist() == [[5, 128, 250]]


def test_voi_lut_is_applied(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4, 0, 8]
    item.LUTData = [255, 100, 50, 0]
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "US"
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    path = make(tmp_path / "a.dcm", stored, VOILUTSequence=Sequence([item]))
    assert decode(path).tolist() == [[255, 100, 50, 0]]


def test_padding_does_not_stretch_the_range(tmp_path: Path) -> None:
    stored = np.array([[0, 1000, 2000]], dtype=np.uint16)
    path = make(tmp_path / "a.dcm", stored, PixelPaddingValue=0)
    assert decode(path).tolist() == [[0, 0, 255]]


def test_eight_bits_colour_and_flat_image(tmp_path: Path) -> None:
    eight = np.array([[0, 128, 255]], dtype=np.uint8)
    assert decode(make(tmp_path / "a.dcm", eight, bits=8)).tolist() == [[0, 128, 255]]
    colour = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)
    assert decode(make(tmp_path / "b.dcm", colour, bits=8)).tolist() == colour.tolist()
    flat = np.full((2, 2), 7, dtype=np.uint16)
    assert decode(make(tmp_path / "c.dcm", flat)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_transfer_syntaxes(tmp_path: Path, syntax: UID) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    plain = decode(make(tmp_path / "a.dcm", stored))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "b.dcm")
    assert np.array_equal(decode(tmp_path / "b.dcm"), plain)


def test_no_suffix_and_no_preamble(tmp_path: Path) -> None:
    make(tmp_path / "IM0001", DEEP)
    assert decode(tmp_path / "IM0001").shape == (2, 2)
    bare = (tmp_path / "IM0001").read_bytes()[132:]
    (tmp_path / "bare.dcm").write_bytes(bare)
    assert decode(tmp_path / "bare.dcm").shape == (2, 2)


def test_patient(tmp_path: Path) -> None:
    assert read_patient(make(tmp_path / "a.dcm", DEEP, PatientID=" P7 ")) == "P7"
    assert read_patient(make(tmp_path / "b.dcm", DEEP)) == ""
    (tmp_path / "c.dcm").write_text("junk")
    assert read_patient(tmp_path / "c.dcm") == ""


def test_unusable_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = _dataset(DEEP, 12, {})
    del report.PixelData
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    short = make(tmp_path / "short.dcm", np.zeros((64, 64), np.uint16))
    short.write_bytes(short.read_bytes()[:-4000])
    (tmp_path / "text.dcm").write_text("a text file " * 40)
    bad = {
        "without pixels": tmp_path / "report.dcm",
        "3 frames": make(tmp_path / "cine.dcm", DEEP, NumberOfFrames=3),
        "expected an intact DICOM": short,
        "DICOM": tmp_path / "text.dcm",
    }
    for message, path in bad.items():
        with pytest.raises(DataError, match=message) as caught:
            decode(path)
        assert path.name in str(caught.value)
    monkeypatch.setattr(dicom, "MAX_PIXELS", 3)
    with pytest.raises(DataError, match="claims 2 x 2 pixels"):
        decode(make(tmp_path / "bomb.dcm", DEEP))


# Real files that pydicom ships, one for each way to store pixels; shapes from their headers.
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("CT_small.dcm", (128, 128)),  # its preamble begins like a TIFF file
        ("MR_small_RLE.dcm", (64, 64)),
        ("MR_small_bigendian.dcm", (64, 64)),
        ("MR_small_jp2klossless.dcm", (64, 64)),
        ("MR_small_jpeg_ls_lossless.dcm", (64, 64)),
        ("JPEGLSNearLossless_16.dcm", (50, 10)),
        ("JPEG2000.dcm", (1024, 256)),
        ("SC_rgb_jpeg_dcmtk.dcm", (100, 100, 3)),
    ],
)
def test_real_transfer_syntaxes(name: str, shape: tuple[int, ...]) -> None:
    pixels = decode(Path(pydicom.__file__).parent / "data" / "test_files" / name)
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    assert pixels.min() < pixels.max()
