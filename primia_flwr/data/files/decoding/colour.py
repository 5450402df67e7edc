"""Colour pixels of DICOM to RGB of 8 bits: PS3.3 C.7.6.3.1.2."""

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding.header import Header
from primia_flwr.data.files.decoding.lut import Floats, read_lut
from primia_flwr.data.files.decoding.stored import Words

_Pixels = npt.NDArray[np.uint8]

_INTO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])


def colour(words: Words, header: Header, photometric: str) -> _Pixels:
    """Show words as (H, W, 3) uint8: white is what the stored bits can hold.

    Raises
    ------
    DataError
        If a palette is none, or the pixels are signed.
    ValueError
        If they are of a kind that nothing here knows.
    """
    if photometric == "PALETTE COLOR":
        return _through_palette(words, header)
    if words.signed:
        raise header.refuse("PixelRepresentation", 1, f"0 with {photometric}")
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        chroma = 2.0 ** (words.stored - 1)
        values = (words.values(words.pixels) - (0, chroma, chroma)) @ _INTO_RGB.T
        return _eight_bits(values, words.stored)
    if photometric != "RGB":
        raise ValueError(f"its colours came out as {photometric}")
    if words.pixels.dtype.itemsize > 2:
        return _eight_bits(words.values(words.pixels), words.stored)
    every = np.arange(256**words.pixels.dtype.itemsize, dtype=words.pixels.dtype)
    shown = _eight_bits(words.values(every), words.stored)
    found: _Pixels = np.ascontiguousarray(shown[words.pixels])
    return found


def _eight_bits(values: Floats, bits: int) -> _Pixels:
    """Return levels of 8 bits of values of so many."""
    levels: _Pixels = np.rint(np.clip(values * (255 / (2**bits - 1)), 0, 255)).astype(np.uint8)
    return levels


def _through_palette(words: Words, header: Header) -> _Pixels:
    if words.pixels.dtype.itemsize > 2:
        raise ValueError("its palette is looked up with more than 16 bits")
    every = np.arange(256**words.pixels.dtype.itemsize, dtype=words.pixels.dtype)
    values = words.values(every)
    ends = (float(values.min()), float(values.max()))
    planes = []
    for name in ("Red", "Green", "Blue"):
        table = f"{name}PaletteColorLookupTable"
        segmented = f"Segmented{table}Data" in header
        data = f"Segmented{table}Data" if segmented else f"{table}Data"
        lut = read_lut(header, ends, descriptor=f"{table}Descriptor", data=data)
        planes.append(np.rint(lut(values) * (255 / lut.white)).astype(np.uint8))
    return np.ascontiguousarray(np.stack(planes, axis=-1)[words.pixels])
