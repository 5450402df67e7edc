"""What de-identification and prediction read: pictures, DICOM files, their frames, and the key."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from primia_flwr.data.deidentification.copies import bare_copy
from primia_flwr.data.deidentification.header import bare_dicom
from primia_flwr.data.deidentification.pictures import bare_png, bare_tiff
from primia_flwr.data.deidentification.segments import bare_jpeg, bare_jpeg_2000
from primia_flwr.data.files.frames import count_frames, single_frames
from primia_flwr.data.pseudonyms import KEY_FILE, Pseudonyms, open_pseudonyms
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reading
from tests.data.deidentification.headers import radiograph, written
from tests.fuzz.loaders.target import Made, put, target

KEYS = Pseudonyms(b"k" * 32)
PIXELS = (np.arange(24 * 20) % 251).astype(np.uint8).reshape(24, 20)


def _picture(form: str, mode: str = "L", **options: Any) -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "words", 6
    if form != "JPEG2000":
        options["exif"] = exif.tobytes()
    Image.fromarray(PIXELS).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def _pictures() -> list[bytes]:
    return [
        _picture("PNG"), _picture("PNG", "P"), _picture("JPEG", comment=b"words"),
        _picture("JPEG", "CMYK", progressive=True), _picture("TIFF", compression="tiff_lzw"),
        _picture("TIFF", compression="jpeg"), _picture("TIFF", big_tiff=True),
    ]  # fmt: skip


def _rle() -> bytes:
    found = radiograph()
    written(found)
    found.compress(RLELossless)
    return written(found, RLELossless)


@target("bare copy")
def copy(folder: Path) -> Made:
    scratch = folder / "scratch"
    scratch.mkdir()
    file = folder / "x"
    dicom = [written(radiograph(), syntax) for syntax in (ExplicitVRLittleEndian,
                                                          ImplicitVRLittleEndian)]  # fmt: skip

    def load(raw: bytes) -> None:
        found = bare_copy(put(file, raw), scratch, "p1", KEYS)
        assert found.content
        assert not list(scratch.iterdir())

    return Made(load, [*_pictures(), *dicom, _rle()])


@target("bare segments")
def segments(folder: Path) -> Made:
    codestream = _picture("JPEG2000", no_jp2=True, comment="words")

    def load(raw: bytes) -> None:
        bare = {b"\xff\xd8": bare_jpeg, b"\xff\x4f": bare_jpeg_2000, b"\x89P": bare_png}
        with reading("x", error=DataError, expected="a picture"):
            bare.get(raw[:2], bare_tiff)(raw)

    return Made(load, [*_pictures(), codestream])


@target("bare header")
def header(folder: Path) -> Made:
    file = folder / "x"
    more = radiograph(WindowCenter="5", RescaleSlope="2", StudyTime="1200", PatientAge="061Y")
    more.private_block(0x99, "words", create=True).add_new(1, "LO", "words")
    seeds = [written(more), written(more, ImplicitVRLittleEndian), _rle()]
    seeds.append(written(radiograph(), ExplicitVRBigEndian))
    return Made(lambda raw: bare_dicom(put(file, raw), "p1", KEYS), seeds)


@target("dicom frames")
def dicom_frames(folder: Path) -> Made:
    file, parts = folder / "x", folder / "parts"
    parts.mkdir()
    found = radiograph(NumberOfFrames=2)
    found.PixelData = found.PixelData * 2

    def load(raw: bytes) -> None:
        if count_frames(put(file, raw)) > 1:
            assert all(part.is_file() for part in single_frames(file, parts))

    return Made(load, [written(found), written(found, ImplicitVRLittleEndian)])


@target("pseudonym key")
def key(folder: Path) -> Made:
    open_pseudonyms(folder)
    file = folder / KEY_FILE
    seed = file.read_bytes()
    return Made(lambda raw: (put(file, raw), open_pseudonyms(folder).patient("P1")), [seed])
