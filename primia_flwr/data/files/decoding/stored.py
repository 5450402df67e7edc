"""Stored values of uncompressed pixels, as words: PS3.5, section 8.

A word is what is allocated for a sample, with whatever its unused bits hold; `Words.values` says
what it stands for, so that a table over all words shows a whole image at once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding.claims import Claims
from primia_flwr.data.files.decoding.stream import DicomStream

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Words:
    """(H, W) or (H, W, 3) unsigned integers of 8, 16 or 32 bits, or floats.

    `stored` bits of an integer count, from `shift` on, as a two's complement if `signed`.
    """

    pixels: Array
    stored: int
    shift: int
    signed: bool

    @property
    def are_floats(self) -> bool:
        """Whether they are no integers."""
        return bool(self.pixels.dtype.kind == "f")

    def values(self, words: Array) -> npt.NDArray[np.float64]:
        """Return the stored values of words, float64."""
        if self.are_floats:
            return words.astype(np.float64)
        found = (words.astype(np.int64) >> self.shift) & ((1 << self.stored) - 1)
        return _signed(found, self.stored, self.signed).astype(np.float64)

    def cells(self, words: Array) -> npt.NDArray[np.float64]:
        """Return words as numbers, with their unused bits, as padding may be written."""
        if self.are_floats:
            return words.astype(np.float64)
        bits = 8 * words.dtype.itemsize
        return _signed(words.astype(np.int64), bits, self.signed).astype(np.float64)


def native_words(file: DicomStream, claims: Claims) -> Words:
    """Read uncompressed pixels.

    Raises
    ------
    ValueError
        If there are fewer bytes than the header claims, or twice as many.
    DataError
        If colours of each two pixels stand together, and their columns are odd.
    """
    if file.length is None:
        raise ValueError(
            f"its pixels are encapsulated, but its transfer syntax {file.syntax} is not"
        )
    claims, expected = as_stored(file, claims)
    if claims.photometric == "YBR_FULL_422" and claims.columns % 2:
        raise file.header.refuse("Columns", claims.columns, "an even number with YBR_FULL_422")
    if not expected <= file.length < max(2 * expected, expected + 2):
        raise ValueError(f"it has {file.length:,} bytes of pixels where {expected:,} belong")
    swapped = not file.little and claims.allocated == 8 and file.vr == "OW"
    content = file.pixels(expected + expected % 2 if swapped else expected)
    if len(content) < expected:
        raise ValueError(f"it ends after {len(content):,} of {expected:,} bytes of pixels")
    if swapped:  # two samples in a word, the first in its low byte
        content = np.frombuffer(content, "u2").byteswap().tobytes()[:expected]
    floats = file.keyword != "PixelData"
    if claims.allocated == 1:
        flat = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        flat = flat[: claims.rows * claims.columns]
    else:
        kind = f"{'f' if floats else 'u'}{claims.allocated // 8}"
        flat = np.frombuffer(content, ("<" if file.little else ">") + kind)
        flat = flat.astype(kind, copy=False)
    return Words(_shaped(flat, claims), claims.stored, claims.shift, claims.signed)


def as_stored(file: DicomStream, claims: Claims) -> tuple[Claims, int]:
    """Return the claims and how many bytes that makes; some say 4:2:2 and store all of it."""
    from dataclasses import replace

    whole = replace(claims, photometric="YBR_FULL")
    if claims.photometric == "YBR_FULL_422" and (file.length or 0) >= whole.bytes:
        return whole, whole.bytes
    return claims, claims.bytes


def _shaped(flat: Array, claims: Claims) -> Array:
    rows, columns = claims.rows, claims.columns
    if claims.samples == 1:
        return flat.reshape(rows, columns)
    if claims.photometric == "YBR_FULL_422":  # Y Y Cb Cr for each two pixels
        pairs = flat.reshape(rows, columns // 2, 4)
        luma, chroma = pairs[..., :2].reshape(rows, columns, 1), pairs[..., 2:]
        return np.concatenate([luma, np.repeat(chroma, 2, axis=1)], axis=2)
    if claims.planar:
        return np.ascontiguousarray(flat.reshape(3, rows, columns).transpose(1, 2, 0))
    return flat.reshape(rows, columns, 3)


def _signed(values: npt.NDArray[np.int64], bits: int, signed: bool) -> npt.NDArray[np.int64]:
    if not signed:
        return values
    return values - ((values >> (bits - 1)) << bits)
