"""PNG and TIFF of more than 8 bits a sample: their values, and what in them is white.

White is told by the file where it can be: by `sBIT` (PNG), `BitsPerSample` or `MaxSampleValue`
(TIFF). A file of 16 bits that says nothing holds values of 8, 10, 12, 14 or 16 bits: the fewest
that all but one pixel in a thousand fit in, since markers and defects may be brighter.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from primia_flwr.data.files.decoding.png import significant_bits

_Pixels = npt.NDArray[np.uint8]
_Array = npt.NDArray[Any]

_DEPTHS = (8, 10, 12, 14, 16)
_TOO_FEW = 64  # pixels of which none may be left out
_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT, _MAX_SAMPLE = 258, 262, 284, 339, 281
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B"}  # "N" is "L" on every machine that this runs on
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF", "I;32B": "I;32N"}
_II, _MM = b"II", b"MM"
for _order, _deep in ((_II, "I;16"), (_MM, "I;16B")):  # what Pillow could read, and does not list
    for _white in (0, 1):
        for _key, _mode in (
            ((_order, _white, (1,), 1, (12,), ()), ("I;16", "I;12")),
            ((_order, _white, (1,), 1, (16,), ()), (_deep, _deep)),
            ((_order, _white, (2,), 1, (16,), ()), ("I", _deep + "S")),
            ((_order, _white, (1,), 1, (32,), ()), ("I", "I;32N" if _order == _II else "I;32B")),
        ):
            TiffImagePlugin.OPEN_INFO.setdefault(_key, _mode)


class NotReadError(ValueError):
    """A whole file that is stored in a way that is not read; it says in which."""


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has samples that are not plain bytes."""
    return _bits(image) > 8 or _sample_format(image) != 1


def told_bits(image: Image.Image, content: bytes) -> int:
    """Return how many bits a file says that its values have; 0 where it says nothing."""
    if image.format == "PNG":
        return significant_bits(content, alpha=image.mode == "RGBA")
    if _sample_format(image) != 1 or _bits(image) > 16:
        return 0
    if _bits(image) < 16:
        return _bits(image)
    largest = _tag(image, _MAX_SAMPLE)
    return int(max(largest)).bit_length() if largest else 0


def read_deep(image: Image.Image, content: bytes) -> _Pixels:
    """Return a deep image as (H, W) or (H, W, 3) uint8, transparency laid over black.

    Raises
    ------
    Exception
        Whatever Pillow may raise; of this module NotReadError.
    """
    told, is_white_zero = told_bits(image, content), _tag(image, _PHOTOMETRIC) == (0,)
    clear = image.info.get("transparency")
    values, alpha = _values(image, content)
    if values.dtype.kind == "f" or values.dtype.itemsize > 2 or values.dtype.kind == "i":
        levels = _stretched(values)
        grey: _Pixels = np.rint(255 * (1 - levels if is_white_zero else levels)).astype(np.uint8)
        return grey
    shown: _Pixels = _table(_depth(values, told), inverted=is_white_zero)[values]
    if alpha is None and clear is not None:
        alpha = np.where((values == np.array(clear)).reshape(*values.shape[:2], -1).all(2), 0, 1)
    elif alpha is not None:
        alpha = alpha / (2.0 ** _depth(alpha, 0) - 1)
    if image.mode == "CMYK":
        return np.asarray(Image.fromarray(shown, "CMYK").convert("RGB"))
    if alpha is None:
        return shown
    alpha = alpha.reshape(*alpha.shape[:2], *[1] * (shown.ndim - 2))
    blended: _Pixels = np.rint(shown * np.clip(alpha, 0, 1)).astype(np.uint8)
    return blended


def _values(image: Image.Image, content: bytes) -> tuple[_Array, _Array | None]:
    """Return an image's samples without loss, and its transparency if it has one."""
    if _tag(image, _PLANAR) == (2,) and len(_tag(image, _BITS)) > 1:
        raise NotReadError("colours of more than 8 bits, stored in planes")
    modes = {_raw_mode(tile.args) for tile in _tiles(image)}
    mode = modes.pop() if len(modes) == 1 else ""
    if mode in _NATIVE and _tiles(image)[0].codec_name == "libtiff":  # which gives native words
        _set_raw_mode(image, _NATIVE[mode])
    if mode == "LA;16B":
        _set_raw_mode(image, "RGBA")  # the four bytes of a pixel, as they are
        image.load()
        pairs = np.ascontiguousarray(np.asarray(image)).view(">u2").astype(np.uint16)
        return pairs[..., 0], pairs[..., 1]
    if len(image.getbands()) > 1:
        return _both_bytes(image, content, mode)
    image.load()
    values = np.asarray(image)
    if _sample_format(image) == 2 and values.dtype == np.uint8:
        values = values.view(np.int8)
    if _sample_format(image) == 1 and values.dtype == np.int32 and _bits(image) == 32:
        values = values.view(np.uint32)
    return values.astype(values.dtype.newbyteorder("="), copy=False), None


def _both_bytes(image: Image.Image, content: bytes, mode: str) -> tuple[_Array, _Array | None]:
    """Decode a colour image twice, since Pillow keeps one byte of each sample."""
    name, _, order = mode.partition(";16")
    if name not in ("RGB", "RGBX", "RGBA", "CMYK") or order not in _OTHER_BYTE:
        raise NotReadError(f"pixels of the kind {mode or 'mixed'}")
    image.load()
    with Image.open(io.BytesIO(content), formats=(str(image.format),)) as again:
        _set_raw_mode(again, f"{name};16{_OTHER_BYTE[order]}")
        again.load()
        values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(again)
    return (values[..., :3], values[..., 3]) if image.mode == "RGBA" else (values, None)


def _depth(values: _Array, told: int) -> int:
    """Return the bits of unsigned values: those that are told, unless many do not fit in."""
    few = max(1, values.size // 1000) if values.size >= _TOO_FEW else 0
    for bits in (told, *_DEPTHS) if told else _DEPTHS:
        if int(np.count_nonzero(values >> min(bits, 16) if bits < 16 else 0)) <= few:
            return bits
    return _DEPTHS[-1]


def _table(bits: int, *, inverted: bool) -> _Pixels:
    levels = np.clip(np.arange(1 << 16) / (2.0**bits - 1), 0, 1)
    return np.rint(255 * (1 - levels if inverted else levels)).astype(np.uint8)


def _stretched(values: _Array) -> npt.NDArray[np.float64]:
    """Return floats or large integers as levels: by [0, 1], a depth, or else their range."""
    floats = values.astype(np.float64)
    real = floats[np.isfinite(floats)]
    low, high = (float(real.min()), float(real.max())) if real.size else (0.0, 1.0)
    if values.dtype.kind == "f":
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    elif low >= 0 and high < 2 ** _DEPTHS[-1]:
        low, high = 0.0, 2.0 ** _depth(values.astype(np.uint16), 0) - 1
    levels = (floats - low) / max(high - low, 1e-12)
    return np.clip(np.nan_to_num(levels, nan=0.0), 0, 1)


def _bits(image: Image.Image) -> int:
    if image.format == "PNG":
        return 16 if any("16" in _raw_mode(tile.args) for tile in _tiles(image)) else 8
    return max(_tag(image, _BITS), default=8)


def _sample_format(image: Image.Image) -> int:
    return max(_tag(image, _SAMPLE_FORMAT), default=1)


def _tag(image: Image.Image, number: int) -> tuple[int, ...]:
    """Return a TIFF file's numbers of one tag."""
    tags: Any = getattr(image, "tag_v2", {})
    value = tags.get(number, ())
    found = value if isinstance(value, tuple) else (value,)
    return tuple(int(one) for one in found)


def _raw_mode(args: Any) -> str:
    return str(args[0] if isinstance(args, tuple) and args else args)


def _tiles(image: Any) -> list[Any]:
    """Return how Pillow will decode an opened file."""
    return list(image.tile)


def _set_raw_mode(image: Any, mode: str) -> None:
    image.tile = [
        tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)
        for tile in image.tile
    ]
