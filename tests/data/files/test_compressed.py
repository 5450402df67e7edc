"""Compressed DICOM files whose header and codestream do not agree."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

from primia_flwr.data.files.images import decode
from primia_flwr.errors import DataError
from tests.data.files.variants import dataset, picture, set_pixels

EIGHT = picture(top=255).astype(np.uint8)
DEEP = picture(top=4095).astype(np.uint16)


def jpeg(pixels: np.ndarray[Any, Any] = EIGHT) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100)
    return file.getvalue()


def jpeg_2000() -> bytes:
    return bytes(encode_array(DEEP, bits_stored=12, photometric_interpretation=2))


def rle() -> bytes:
    made = dataset()
    set_pixels(made, DEEP, allocated=16, stored=12)
    made.compress(RLELossless)
    return bytes(get_frame(made.PixelData, 0, number_of_frames=1))


def encapsulated(
    path: Path, syntax: UID, *frames: bytes, allocated: int = 16, stored: int = 12
) -> Path:
    """Write these fragments below a header of one frame."""
    made: FileDataset = dataset()
    set_pixels(made, DEEP, allocated=allocated, stored=stored)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(list(frames), has_bot=False)
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("syntax", "stream"),
    [(JPEGBaseline8Bit, jpeg()), (JPEG2000Lossless, jpeg_2000()), (RLELossless, rle())],
)
def test_a_second_frame_is_not_left_out_without_a_word(
    tmp_path: Path, syntax: UID, stream: bytes
) -> None:
    assert decode(encapsulated(tmp_path / "a.dcm", syntax, stream)).shape == (48, 64)
    two = encapsulated(tmp_path / "b.dcm", syntax, stream, stream)
    with pytest.raises(DataError, match=r"b.dcm: .*more than one frame.*NumberOfFrames"):
        decode(two)


def test_fragments_of_one_frame_are_one(tmp_path: Path) -> None:
    stream = jpeg()
    parts = [stream[at : at + 400] for at in range(0, len(stream), 400)]
    one = decode(encapsulated(tmp_path / "a.dcm", JPEGBaseline8Bit, stream))
    assert np.array_equal(decode(encapsulated(tmp_path / "b.dcm", JPEGBaseline8Bit, *parts)), one)


@pytest.mark.parametrize(("allocated", "stored"), [(16, 8), (16, 12), (16, 16), (8, 8)])
def test_a_stream_of_8_bits_in_words_of_16(tmp_path: Path, allocated: int, stored: int) -> None:
    path = encapsulated(
        tmp_path / "a.dcm", JPEGBaseline8Bit, jpeg(), allocated=allocated, stored=stored
    )
    low, high = int(EIGHT.min()), int(EIGHT.max())
    expected = (EIGHT.astype(float) - low) * 255 / (high - low)
    assert np.abs(decode(path) - expected).max() <= 3  # JPEG itself is off by one, and at both ends


@pytest.mark.parametrize(
    ("syntax", "stream", "says"),
    [
        (JPEGBaseline8Bit, jpeg_2000(), "is JPEG 2000, and its transfer syntax says JPEG"),
        (JPEGLosslessSV1, jpeg_2000(), "is JPEG 2000, and its transfer syntax says JPEG"),
        (JPEG2000Lossless, jpeg(), "is JPEG, and its transfer syntax says JPEG 2000"),
        (RLELossless, jpeg(), "is JPEG, and its transfer syntax says RLE"),
        (JPEGBaseline8Bit, rle(), "no intact head"),
        (
            UID("1.2.840.10008.1.2.4.103"),
            b"\0" * 100,
            r"TransferSyntaxUID is '1.2.840.10008.1.2.4.103'; expected that of an uncompressed",
        ),
        (JPEG2000Lossless, jpeg_2000()[:400] + b"\xff\xd9", "JPEG 2000 codestream is damaged"),
        (RLELossless, rle()[:-900], "RLE codestream is damaged"),
    ],
)
def test_streams_that_are_not_what_the_header_says(
    tmp_path: Path, syntax: UID, stream: bytes, says: str
) -> None:
    with pytest.raises(DataError, match=says) as caught:
        decode(encapsulated(tmp_path / "a.dcm", syntax, stream))
    for library in ("gdcm", "pylibjpeg", "plugin", "NoneType"):
        assert library not in str(caught.value)
