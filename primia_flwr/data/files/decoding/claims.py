"""What a DICOM header claims of its pixels, checked before memory is asked for."""

from dataclasses import dataclass
from pathlib import Path

from primia_flwr.data.files.decoding.stream import DicomStream
from primia_flwr.errors import DataError

MAX_PIXELS = 100_000_000
"""Largest width x height that is decoded; a compressed file may claim any size."""
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_UNCHECKED, _HIGHEST_RATIO = 32 << 20, 300
_ALLOCATED = {"PixelData": (1, 8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}


@dataclass(frozen=True)
class Claims:
    """How pixels are stored: PS3.3 C.7.6.3. `stored` bits of each `allocated`, from `shift` on."""

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    shift: int
    signed: bool
    planar: bool

    @property
    def bytes(self) -> int:
        """How many bytes the pixels have, uncompressed."""
        per_pixel = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return -(-self.rows * self.columns * per_pixel * self.allocated // 8)


def read_claims(file: DicomStream, *, at_most: int) -> Claims:
    """Read what a header says of its pixels.

    Raises
    ------
    DataError
        If it has none, several frames, more than `at_most` pixels, or contradicts itself.
    """
    photometric = file.header.text("PhotometricInterpretation").upper()
    _check_single(file)
    sides = _sides(file, at_most)
    samples = _samples(file, photometric)
    bits = _bits(file)
    signed, planar = _flag(file, "PixelRepresentation"), _flag(file, "PlanarConfiguration")
    claims = Claims(*sides, samples, photometric, *bits, signed, planar)
    check_ratio(file.header.path, claims.bytes, file.size)
    return claims


def _check_single(file: DicomStream) -> None:
    path = file.header.path
    if not file.keyword:
        raise DataError(
            f"{path}: a DICOM file without pixels; expected an image: leave reports and "
            "presentation states out of the folder"
        )
    frames = file.header.integer("NumberOfFrames", 1)
    if frames not in (0, 1):
        raise DataError(f"{path}: has {frames} frames; expected a single image: export one frame")


def _sides(file: DicomStream, at_most: int) -> tuple[int, int]:
    header = file.header
    rows, columns = header.integer("Rows", 0), header.integer("Columns", 0)
    for keyword, sides in (("Rows", rows), ("Columns", columns)):
        if sides < 1:
            raise header.refuse(keyword, sides, "at least 1")
    if rows * columns > at_most:
        raise DataError(
            f"{header.path}: claims {rows} x {columns} pixels; expected at most {at_most:,}: "
            "export it smaller"
        )
    return rows, columns


def _flag(file: DicomStream, keyword: str) -> bool:
    found = file.header.integer(keyword, 0)
    if found not in (0, 1):
        raise file.header.refuse(keyword, found, "0 or 1")
    return bool(found)


def check_ratio(path: Path, claimed: int, stored: int) -> None:
    """Refuse many bytes of pixels that a file of few bytes claims to hold.

    Raises
    ------
    DataError
        If `claimed` bytes are more than 32 MiB, and more than 300 a stored one.
    """
    if claimed > max(_UNCHECKED, _HIGHEST_RATIO * stored):
        raise DataError(
            f"{path}: claims {claimed >> 20} MiB of pixels in {stored >> 10} KiB; expected a "
            "radiograph, which is never compressed so far: replace or remove the file"
        )


def _samples(file: DicomStream, photometric: str) -> int:
    if photometric not in (*MONOCHROME, *_COLOUR):
        known = ", ".join((*MONOCHROME, *_COLOUR))
        raise file.header.refuse("PhotometricInterpretation", photometric, f"one of {known}")
    expected = 1 if photometric in (*MONOCHROME, "PALETTE COLOR") else 3
    samples = file.header.integer("SamplesPerPixel", expected)
    if samples != expected:
        raise file.header.refuse("SamplesPerPixel", samples, f"{expected} with {photometric}")
    return samples


def _bits(file: DicomStream) -> tuple[int, int, int]:
    """Return bits allocated, bits stored, and the place of the lowest of them."""
    header, among = file.header, _ALLOCATED[file.keyword]
    allocated = header.integer("BitsAllocated", 0)
    if allocated not in among:
        raise header.refuse("BitsAllocated", allocated, f"one of {', '.join(map(str, among))}")
    if file.keyword != "PixelData":
        return allocated, allocated, 0
    stored = header.integer("BitsStored", allocated)
    if not 1 <= stored <= allocated:
        raise header.refuse("BitsStored", stored, f"1 to {allocated}")
    high = header.integer("HighBit", stored - 1)
    if not stored - 1 <= high < allocated:
        raise header.refuse("HighBit", high, f"{stored - 1} to {allocated - 1}")
    return allocated, stored, high + 1 - stored
