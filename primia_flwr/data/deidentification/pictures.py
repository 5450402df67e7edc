"""PNG and TIFF files without what is not needed for their pixels, which stay as they are stored.

Source: W3C PNG (third edition), section 11; TIFF 6.0, sections 2 and 22; BigTIFF.
"""

import struct
import zlib
from dataclasses import dataclass

from primia_flwr.data.deidentification.segments import bare_jpeg, orientation_tiff

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs"}
_END = b"IEND"

_SIZES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 11: 4, 12: 8, 5: 8, 10: 8, 16: 8, 17: 8, 7: 1}
_INTEGERS = {1: "B", 3: "H", 4: "L", 16: "Q"}
_TAGS = {
    254, 256, 257, 258, 259, 262, 266, 274, 277, 278, 280, 281, 282, 283, 284, 292, 293, 296, 317,
    320, 322, 323, 332, 334, 338, 339, 340, 341, 347, 529, 530, 531, 532,
}  # fmt: skip
_STRIPS, _TILES = (273, 279), (324, 325)
_JPEG_TABLES, _COMPRESSION, _JPEG = 347, 259, 7
_LAST_ENTRY = 4096


def bare_png(content: bytes, *, orientation: int = 1) -> tuple[bytes, list[str]]:
    """Return a PNG of only the chunks that its pixels need; as `segments.bare_jpeg`.

    Raises
    ------
    ValueError
        If it is no row of chunks.
    """
    if content[:8] != _SIGNATURE:
        raise ValueError("it does not begin as PNG does")
    kept, removed, at = [_SIGNATURE], list[str](), 8
    while True:
        if at + 12 > len(content):
            raise ValueError("it has no end")
        (length,) = struct.unpack_from(">L", content, at)
        kind, after = content[at + 4 : at + 8], at + 12 + length
        if after > len(content):
            raise ValueError("it ends within a chunk")
        if kind == b"IDAT" and orientation != 1:
            kept.append(_chunk(b"eXIf", orientation_tiff(orientation)))
            orientation = 1
        if kind in _CHUNKS:
            kept.append(content[at:after])
        elif kind == _END:
            removed += ["data after the image"] * (after < len(content))
            return b"".join((*kept, _chunk(_END, b""))), removed
        else:
            removed.append(kind.decode("ascii", "replace"))
        at = after


def _chunk(kind: bytes, body: bytes) -> bytes:
    checked = kind + body
    return struct.pack(">L", len(body)) + checked + struct.pack(">L", zlib.crc32(checked))


@dataclass(frozen=True)
class _Form:
    """Byte order, and the sizes of classic or of big TIFF."""

    order: str
    is_big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.is_big else "L")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def room(self) -> int:
        return 8 if self.is_big else 4

    @property
    def entry(self) -> int:
        return 20 if self.is_big else 12

    @property
    def head(self) -> bytes:
        mark = b"II" if self.order == "<" else b"MM"
        more = struct.pack(self.order + "HHH", 43, 8, 0) if self.is_big else b""
        return mark + (more or struct.pack(self.order + "H", 42))


_Entry = tuple[int, int, bytes]
"""Type, number of values, and their bytes."""


def bare_tiff(content: bytes) -> tuple[bytes, list[str]]:
    """Return a TIFF of its first page and the tags that this needs; as `segments.bare_jpeg`.

    Raises
    ------
    ValueError, struct.error
        If it is damaged, or its pixels lie in neither strips nor tiles.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        raise ValueError("it does not begin as TIFF does")
    form = _Form(order, content[2:4] in (b"+\0", b"\0+"))
    (start,) = struct.unpack_from(form.offset, content, 8 if form.is_big else 4)
    entries = _entries(content, start, form)
    places = next((pair for pair in (_TILES, _STRIPS) if set(pair) <= entries.keys()), None)
    if places is None:
        raise ValueError("its pixels lie in neither strips nor tiles")
    offsets, lengths = (_integers(entries[tag], form) for tag in places)
    if len(offsets) != len(lengths):
        raise ValueError("its strips have no lengths")
    blocks = [_slice(content, *place) for place in zip(offsets, lengths, strict=True)]
    kept = {tag: entry for tag, entry in entries.items() if _is_kept(tag, entry)}
    removed = [f"tag {tag}" for tag in entries if tag not in kept and tag not in places]
    if _integers(entries.get(_COMPRESSION, (3, 1, b"\1\0")), form) == [_JPEG]:
        blocks, removed = _bare_blocks(blocks, kept, removed)
    return _written(form, kept, places, blocks), removed


def _bare_blocks(
    blocks: list[bytes], kept: dict[int, _Entry], removed: list[str]
) -> tuple[list[bytes], list[str]]:
    """Strip the JPEG streams of the blocks, and that of the tables that they share."""
    bare = [bare_jpeg(block) for block in blocks]
    if _JPEG_TABLES in kept:
        tables, names = bare_jpeg(kept[_JPEG_TABLES][2])
        kept[_JPEG_TABLES] = (7, len(tables), tables)
        removed = [*removed, *names]
    return [block for block, _ in bare], [*removed, *(name for _, names in bare for name in names)]


def _entries(content: bytes, start: int, form: _Form) -> dict[int, _Entry]:
    (number,) = struct.unpack_from(form.count, content, start)
    if number > _LAST_ENTRY:
        raise ValueError(f"it claims {number} tags")
    at, found = start + struct.calcsize(form.count), dict[int, _Entry]()
    for place in range(at, at + number * form.entry, form.entry):
        tag, kind = struct.unpack_from(form.order + "HH", content, place)
        (values,) = struct.unpack_from(form.offset, content, place + 4)
        size, inline = values * _SIZES.get(kind, 0), place + form.entry - form.room
        if size > form.room:
            (inline,) = struct.unpack_from(form.offset, content, inline)
        found.setdefault(tag, (kind, values, _slice(content, inline, size)))
    return found


def _slice(content: bytes, start: int, length: int) -> bytes:
    part = content[start : start + length]
    if len(part) < length:
        raise ValueError("it ends before what it points to")
    return part


def _is_kept(tag: int, entry: _Entry) -> bool:
    """Whether a tag is needed and a number; only tables of JPEG are bytes without a type."""
    return tag in _TAGS and entry[0] in _SIZES and (entry[0] != 7 or tag == _JPEG_TABLES)


def _integers(entry: _Entry, form: _Form) -> list[int]:
    kind, values, content = entry
    if kind not in _INTEGERS:
        raise ValueError("a number of bytes is no whole number")
    return list(struct.unpack(f"{form.order}{values}{_INTEGERS[kind]}", content))


def _written(
    form: _Form, kept: dict[int, _Entry], places: tuple[int, int], blocks: list[bytes]
) -> bytes:
    out = bytearray(form.head + bytes(form.room))

    def append(part: bytes) -> int:
        out.extend(bytes(-len(out) % 8))
        at = len(out)
        out.extend(part)
        return at

    kind, letter = (16, "Q") if form.is_big else (4, "L")
    rows = ([append(block) for block in blocks], [len(block) for block in blocks])
    packed = [struct.pack(f"{form.order}{len(row)}{letter}", *row) for row in rows]
    entries = {**kept, **{t: (kind, len(blocks), p) for t, p in zip(places, packed, strict=True)}}
    body = struct.pack(form.count, len(entries))
    for tag, (kind_of, values, content) in sorted(entries.items()):
        room = content.ljust(form.room, b"\0")
        if len(content) > form.room:
            room = struct.pack(form.offset, append(content))
        body += struct.pack(form.order + "HH", tag, kind_of) + struct.pack(form.offset, values)
        body += room
    at = append(body + bytes(form.room))
    struct.pack_into(form.offset, out, len(form.head), at)
    return bytes(out)
