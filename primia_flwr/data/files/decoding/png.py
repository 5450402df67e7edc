"""What a PNG file says of its pixels, chunk by chunk, and whether all of them are there."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
"""First column, first row, and the steps of each, of the passes of an interlaced file."""
_CHUNK = 1 << 20


def significant_bits(content: bytes, *, alpha: bool) -> int:
    """Return what the chunk sBIT says of the colours; 0 if there is none."""
    for kind, data, _ in _chunks(content):
        if kind == b"sBIT":
            bits = bytes(data[:4])
            return max(bits[: -1 if alpha else None], default=0)
        if kind == b"IDAT":
            break
    return 0


def check_pixels(image: Image.Image, content: bytes) -> None:
    """Refuse a loaded PNG file whose data are damaged, or end before its last row.

    Pillow looks at no checksum of pixels, and leaves rows black that are not there.

    Raises
    ------
    ValueError
        If so.
    """
    if image.format != "PNG":
        return
    if any(not _is_intact(kind, data, crc) for kind, data, crc in _chunks(content)):
        raise ValueError("a checksum of its pixels is wrong")
    head = bytes(content[16:29])
    if not head[12] and np.asarray(image)[-1].any():
        return
    expected = _bytes_of(*struct.unpack(">LLBBBBB", head))
    if _inflated(content, expected) < expected:
        raise ValueError("its data end before its last row")


def _bytes_of(width: int, height: int, bits: int, kind: int, _: int, __: int, adam7: int) -> int:
    """Return how many bytes the rows have, each with its filter."""
    passes = _ADAM7 if adam7 else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    return sum(
        rows * (1 + -(-columns * bits * _CHANNELS[kind] // 8))
        for columns, rows in sizes
        if columns > 0 and rows > 0
    )


def _inflated(content: bytes, enough: int) -> int:
    """Return how many bytes the data inflate to, counted until there are enough."""
    inflater, found = zlib.decompressobj(), 0
    for kind, data, _ in _chunks(content):
        rest = bytes(data) if kind == b"IDAT" else b""
        while rest and found < enough:
            found += len(inflater.decompress(rest, _CHUNK))
            rest = inflater.unconsumed_tail
    return found


def _is_intact(kind: bytes, data: memoryview, crc: bytes) -> bool:
    """Whether a chunk's checksum is right; that of one which is no pixels is Pillow's business."""
    return kind != b"IDAT" or zlib.crc32(data, zlib.crc32(kind)).to_bytes(4) == crc


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, bytes]]:
    """Yield kind, data and checksum of each chunk."""
    at, whole = 8, memoryview(content)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">L4s", content, at)
        end = at + 8 + length
        yield kind, whole[at + 8 : end], content[end : end + 4]
        at += 12 + length
