"""The pixels of a DICOM file as they are stored, without what else hides in their bytes.

Unused bits of a word may hold an overlay, a compressed stream comments, and the element more bytes
than the image has.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.data.deidentification.segments import bare_jpeg, bare_jpeg_2000
from primia_flwr.data.files.decoding import workers
from primia_flwr.data.files.decoding.claims import MAX_PIXELS, Claims, read_claims
from primia_flwr.data.files.decoding.compressed import one_frame
from primia_flwr.data.files.decoding.stored import Words, as_stored
from primia_flwr.data.files.decoding.stream import EXPLICIT, NATIVE, DicomStream, open_dicom

_RLE = "1.2.840.10008.1.2.5"
_KNOWN = (b"\xff\xd8", b"\xff\x4f\xff\x51")
_OVERLAYS = range(0x6000, 0x6100)


@dataclass(frozen=True)
class PixelElement:
    """Pixels to write, little endian: `changed` are elements that have to go with them."""

    keyword: str
    vr: str
    content: bytes
    syntax: str
    is_encapsulated: bool = False
    removed: list[str] = field(default_factory=list)
    changed: dict[str, Any] = field(default_factory=dict)


def bare_pixels(file: DicomStream, path: Path) -> PixelElement:
    """Return the pixels of an open file.

    Raises
    ------
    Exception
        Whatever a decoder may raise; of this module ValueError.
    """
    claims = read_claims(file, at_most=MAX_PIXELS)
    if file.syntax in NATIVE:
        return _native(file, claims)
    tags = file.header.dataset.keys()
    overlay = any(tag.group in _OVERLAYS for tag in tags)
    if claims.stored < claims.allocated and overlay:
        return _decoded(path, claims)
    stream = one_frame(file.pixels())
    if not stream.startswith(_KNOWN) and file.syntax != _RLE:  # JP2, with boxes around the stream
        return _decoded(path, claims)
    return _encapsulated(stream, file.syntax)


def _native(file: DicomStream, claims: Claims) -> PixelElement:
    claims, size = as_stored(file, claims)
    length = file.length or 0
    content = file.pixels(size + size % 2)[: size + size % 2]
    word = max(1, claims.allocated // 8)
    swapped = not file.little and (word > 1 or file.vr == "OW")
    if swapped:
        kind = f"u{max(2, word)}"
        usable = len(content) // int(kind[1]) * int(kind[1])
        content = np.frombuffer(content[:usable], kind).byteswap().tobytes() + content[usable:]
    content, cleared = content[:size], False
    if word > 1 and file.keyword == "PixelData":
        content, cleared = _cleared(content, claims, _padding(file, claims))
    removed = ["unused bits of pixels"] * cleared
    removed += ["data after the pixels"] * (length > size + size % 2)
    vr = {"FloatPixelData": "OF", "DoubleFloatPixelData": "OD"}.get(file.keyword, "")
    vr = vr or ("OW" if word > 1 else "OB")
    return PixelElement(file.keyword, vr, content + b"\0" * (size % 2), EXPLICIT, removed=removed)


def _decoded(path: Path, claims: Claims) -> PixelElement:
    """Decode a compressed image, whose unused bits or surroundings cannot be cleared otherwise."""
    words, photometric = workers.stored_values(path, size=claims.bytes)
    with open_dicom(path) as file:
        padding = _padding(file, claims)
    bits = 8 * words.pixels.dtype.itemsize
    decoded = replace(claims, allocated=bits, shift=words.shift, stored=words.stored)
    little = words.pixels.astype(words.pixels.dtype.newbyteorder("<")).tobytes()
    content, cleared = _cleared(little, decoded, padding)
    changed = {
        "PhotometricInterpretation": photometric,
        "BitsAllocated": decoded.allocated,
        "BitsStored": words.stored,
        "HighBit": words.shift + words.stored - 1,
    }
    if claims.samples > 1:
        changed["PlanarConfiguration"] = 0
    return PixelElement(
        "PixelData",
        "OW" if decoded.allocated > 8 else "OB",
        content + b"\0" * (len(content) % 2),
        EXPLICIT,
        removed=["unused bits of pixels"] * cleared,
        changed=changed,
    )


def _encapsulated(stream: bytes, syntax: str) -> PixelElement:
    from pydicom.encaps import encapsulate

    removed = list[str]()
    if syntax == _RLE:
        pass
    elif stream[:2] == b"\xff\xd8":
        stream, removed = bare_jpeg(stream)
    else:
        stream, removed = bare_jpeg_2000(stream)
    content = encapsulate([stream], has_bot=False)
    return PixelElement("PixelData", "OB", content, syntax, True, removed)


def _cleared(content: bytes, claims: Claims, padding: list[float]) -> tuple[bytes, bool]:
    """Clear the bits of words that are not stored, or fill them with the sign.

    Words that stand for padding stay, since padding may lie outside the stored bits.
    """
    if claims.stored >= claims.allocated:
        return content, False
    kind = f"<u{claims.allocated // 8}"
    words = Words(np.frombuffer(content, kind), claims.stored, claims.shift, claims.signed)
    found = words.pixels
    mask = ((1 << claims.stored) - 1) << claims.shift
    clear = found & np.array(mask, found.dtype)
    if claims.signed:
        above = ((1 << claims.allocated) - 1) ^ ((1 << (claims.shift + claims.stored)) - 1)
        negative = (found >> (claims.shift + claims.stored - 1)) & 1 == 1
        clear = np.where(negative, clear | np.array(above, found.dtype), clear)
    if padding:
        cells = words.cells(found)
        clear = np.where((cells >= min(padding)) & (cells <= max(padding)), found, clear)
    return clear.astype(kind).tobytes(), bool((clear != found).any())


def _padding(file: DicomStream, claims: Claims) -> list[float]:
    names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ends = [file.header.numbers(name, signed=claims.signed) for name in names]
    return [end[0] for end in ends if end] if ends[0] else []
