"""Stored values to grey levels, as a radiologist would see them.

The chain of the standard (PS3.3 C.11 and C.7.6.3): stored values → modality LUT or rescale →
VOI LUT or window → presentation (inverted: bright means low).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding.header import Header
from primia_flwr.data.files.decoding.lut import Floats, Lut, read_lut
from primia_flwr.data.files.decoding.stored import Array, Words
from primia_flwr.errors import DataError

Pixels = npt.NDArray[np.uint8]
_Mask = npt.NDArray[np.bool_]


def grey(words: Words, header: Header, *, inverted: bool) -> Pixels:
    """Show (H, W) words as (H, W) uint8; `inverted`: low values are bright.

    The VOI LUT, else the first window, spans 0 to 255, and without either the values present,
    padding left out.
    """
    if words.are_floats or words.pixels.dtype.itemsize > 2:
        every, real = words.pixels, np.ones(words.pixels.shape, bool)
    else:  # show each possible word once, and look the image up
        every = np.arange(256**words.pixels.dtype.itemsize, dtype=words.pixels.dtype)
        real = np.zeros(every.shape, bool)
        real[words.pixels] = True
    real &= ~_is_padding(words, header, every)
    levels = _levels(words.values(every), real, header)
    shown = np.rint(255 * (1 - levels if inverted else levels)).astype(np.uint8)
    return shown if shown.shape == words.pixels.shape else shown[words.pixels]


def _levels(stored: Floats, real: _Mask, header: Header) -> Floats:
    """Return levels in [0, 1] of stored values; `real` ones decide where nothing else does."""
    values = _modality(stored, header)
    voi = _frame_part(header, "FrameVOILUTSequence")
    item = voi.first_item("VOILUTSequence")
    if item is not None:
        lut = _lut_of(item, values)
        levels = lut(values) / lut.white
    elif (window := _window(voi)) is not None:
        levels = window.levels(values)
    else:
        levels = _stretched(values, values[real])
    return np.clip(np.nan_to_num(levels), 0, 1)


def _modality(stored: Floats, header: Header) -> Floats:
    part = _frame_part(header, "PixelValueTransformationSequence")
    if (item := header.first_item("ModalityLUTSequence")) is not None:
        return _lut_of(item, stored)(stored)
    slope = part.number("RescaleSlope", 1)
    if slope == 0:
        raise part.refuse("RescaleSlope", slope, "a number other than 0")
    return stored * slope + part.number("RescaleIntercept", 0)


def _lut_of(item: Header, inputs: Floats) -> Lut:
    ends = (float(np.nanmin(inputs)), float(np.nanmax(inputs)))
    return read_lut(item, ends, descriptor="LUTDescriptor", data="LUTData")


class _Window(NamedTuple):
    """Centre and width in rescaled values: PS3.3 C.11.2.1.2."""

    centre: float
    width: float
    function: str

    def levels(self, values: Floats) -> Floats:
        """Return levels, 0 for black and 1 for white; beyond both outside the window."""
        if self.function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values - self.centre) / self.width))
        if self.function == "LINEAR_EXACT" or self.width < 1:
            return (values - self.centre) / self.width + 0.5
        if self.width == 1:
            return (values > self.centre - 0.5).astype(np.float64)
        return (values - (self.centre - 0.5)) / (self.width - 1) + 0.5


def _window(header: Header) -> _Window | None:
    """Return the first window; nothing where it is missing, or no number, or has no width."""
    try:
        centres, widths = header.numbers("WindowCenter"), header.numbers("WindowWidth")
    except DataError:
        return None
    if not centres or not widths or widths[0] <= 0:
        return None
    return _Window(centres[0], widths[0], header.text("VOILUTFunction").upper())


def _stretched(values: Floats, real: Floats) -> Floats:
    """Return levels by the range of the real values; without any, all are the lowest."""
    real = real[np.isfinite(real)]
    if not real.size:
        return np.zeros_like(values)
    low, high = float(real.min()), float(real.max())
    return (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12)


def _is_padding(words: Words, header: Header, every: Array) -> _Mask:
    """Say which words are padding: PS3.3 C.7.5.1.1.2.

    Padding may lie outside the stored bits, so words are compared with and without the others.
    """
    keywords = _PADDING[words.pixels.dtype.itemsize if words.are_floats else 0]
    ends = [header.numbers(keyword, signed=words.signed) for keyword in keywords]
    if not ends[0]:
        return np.zeros(every.shape, bool)
    first, last = ends[0][0], (ends[1] or ends[0])[0]
    if words.are_floats:
        low, high = sorted((first, last))
        return (every >= low) & (every <= high)
    is_padding = np.zeros(every.shape, bool)
    for bits, values in (
        (8 * words.pixels.dtype.itemsize, words.cells(every)),
        (words.stored, words.values(every)),
    ):
        low, high = sorted(_within(end, bits, words.signed) for end in (first, last))
        is_padding |= (values >= low) & (values <= high)
    return is_padding


_PADDING = {
    0: ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    4: ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    8: ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}


def _within(number: float, bits: int, signed: bool) -> float:
    """Return the number of so many bits that a 16-bit one of either sign was meant to be."""
    if not signed:
        return number if number >= 0 else number + 2**16
    whole = int(number)
    low = -(2 ** (bits - 1))
    if low <= whole < -low:
        return number
    return float((whole - low) % (-2 * low) + low)


def _frame_part(header: Header, sequence: str) -> Header:
    """Return what holds a frame's elements in an enhanced object; else the header itself."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        group = header.first_item(groups)
        if group is not None and (part := group.first_item(sequence)) is not None:
            return part
    return header
