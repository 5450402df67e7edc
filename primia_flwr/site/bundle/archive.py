"""The zip file of a bundle, read in one way only.

A zip file says everything twice, in its directory and before each file, and readers differ in
what they believe. Accepted is what `flwr build` writes and nothing else: files one after another
from the first byte on, then a directory that says the same of each, then the end. What is read
here is therefore what every other reader finds. Sizes are bounded before anything is unpacked,
and what is unpacked is cut off where its declared size ends.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundle.names import check_name
from primia_flwr.storage.printable import shown

MAX_BUNDLE_BYTES = 32 * 2**20
_MAX_UNPACKED_BYTES = 64 * 2**20
MAX_FILES = 4000

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END_SIGN, _ENTRY_SIGN, _LOCAL_SIGN = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"
_ZIP64_SIGN, _ZIP64_BYTES = b"PK\x06\x07", 20
_STORED, _DEFLATED = 0, 8
_NEWEST_VERSION = 20  # of the format: stored and deflated files, no zip64
_REGULAR_FILE = 0o100000


@dataclass(frozen=True)
class _Entry:
    """One file as the directory describes it."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    stamp: tuple[int, int]


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a bundle's content as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def check_size(size: int) -> None:
    """Refuse a bundle that is larger than any honest one.

    Raises
    ------
    PolicyRefusal
        If it has more than `MAX_BUNDLE_BYTES`.
    """
    if size > MAX_BUNDLE_BYTES:
        raise PolicyRefusal(f"bundle of {size} bytes; expected at most {MAX_BUNDLE_BYTES}")


def read_archive(content: bytes) -> dict[str, bytes]:
    """Return every file of a bundle by its path, in the order of the zip file.

    Raises
    ------
    PolicyRefusal
        If it is no zip file as `flwr build` writes it, or is too large in any way.
    """
    check_size(len(content))
    start, count = _read_end(content)
    entries = _read_directory(content, start, count)
    total = sum(entry.size for entry in entries)
    if total > _MAX_UNPACKED_BYTES:
        raise PolicyRefusal(f"bundle unpacks to more than {_MAX_UNPACKED_BYTES} bytes; refused")
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise PolicyRefusal("bundle names a file twice; expected unique names")
    files, position = dict[str, bytes](), 0
    for entry in entries:
        data = _check_local(content, entry, position)
        position = data + entry.packed
        if position > start:
            raise _unreadable("its files reach into its directory")
        files[entry.name] = _unpack(content[data:position], entry)
    if position != start:
        raise _unreadable("there is something between its files and its directory")
    return files


def _read_end(content: bytes) -> tuple[int, int]:
    """Return where the directory starts and how many files it names."""
    if len(content) < _END.size:
        raise _unreadable("it is no zip file")
    sign, disk, first, here, count, size, start, comment = _END.unpack(content[-_END.size :])
    if sign != _END_SIGN or comment:
        raise _unreadable("it is no zip file, or something follows its end")
    before = content[-_END.size - _ZIP64_BYTES :][:4]
    if disk or first or here != count or before == _ZIP64_SIGN:
        raise _unreadable("it is a zip file of several parts or of the 64-bit kind")
    if start + size != len(content) - _END.size:
        raise _unreadable("its directory is not where its end says")
    if count > MAX_FILES:
        raise PolicyRefusal(f"bundle of {count} files; expected at most {MAX_FILES}")
    return start, count


def _read_directory(content: bytes, start: int, count: int) -> list[_Entry]:
    entries, position, end = list[_Entry](), start, len(content) - _END.size
    expected_offset = 0
    for _ in range(count):
        if position + _ENTRY.size > end:
            raise _unreadable("its directory is cut off")
        fields = _ENTRY.unpack(content[position : position + _ENTRY.size])
        name_at = position + _ENTRY.size
        position = name_at + fields[10]
        entries.append(_entry(fields, content[name_at : min(position, end)], expected_offset))
        expected_offset += _LOCAL.size + fields[10] + entries[-1].packed
    if position != end:
        raise _unreadable("its directory holds more than it names")
    return entries


def _entry(fields: tuple[Any, ...], raw_name: bytes, expected_offset: int) -> _Entry:
    sign, _, needs, flags, method, time, date, crc, packed, size, *rest = fields
    length, extra, comment, disk, _, attributes, offset = rest
    name = _decoded(raw_name)
    check_name(name)
    kind = attributes >> 16 & 0o170000
    if kind not in (0, _REGULAR_FILE) or attributes & 0x10:
        raise PolicyRefusal(f"bundle has the entry {shown(name)}; expected plain files, no links")
    plain = flags == extra == comment == disk == 0 and needs <= _NEWEST_VERSION
    if sign != _ENTRY_SIGN or not plain or length != len(raw_name):
        raise _unreadable("it has encrypted files, additions or a format that flwr never writes")
    if method not in (_STORED, _DEFLATED) or (method == _STORED and packed != size):
        raise _unreadable("it is packed in a way that flwr never uses")
    if offset != expected_offset:
        raise _unreadable("its files do not follow one another")
    return _Entry(name, method, crc, packed, size, (time, date))


def _check_local(content: bytes, entry: _Entry, position: int) -> int:
    """Check that the header before a file says what the directory says; return where it ends."""
    if position + _LOCAL.size > len(content):
        raise _unreadable("its files are cut off")
    fields = _LOCAL.unpack(content[position : position + _LOCAL.size])
    sign, needs, flags, method, time, date, crc, packed, size, length, extra = fields
    name_at = position + _LOCAL.size
    same = (
        sign == _LOCAL_SIGN
        and (needs <= _NEWEST_VERSION and flags == extra == 0)
        and (method, crc, packed, size) == (entry.method, entry.crc, entry.packed, entry.size)
        and (time, date) == entry.stamp
        and content[name_at : name_at + length] == entry.name.encode()
    )
    if not same:
        raise _unreadable("its directory and its files contradict each other")
    end: int = name_at + length
    return end


def _unpack(packed: bytes, entry: _Entry) -> bytes:
    unpacked = packed if entry.method == _STORED else _inflate(packed, entry.size)
    if len(unpacked) != entry.size or zlib.crc32(unpacked) != entry.crc:
        raise _unreadable("a file is not as long as it says, or is damaged")
    return unpacked


def _inflate(packed: bytes, size: int) -> bytes:
    """Inflate at most `size` bytes; what is longer, shorter or followed by more is damaged."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = stream.decompress(packed, size + 1)
    except zlib.error:
        raise _unreadable("a file is damaged") from None
    if not stream.eof or stream.unused_data or stream.unconsumed_tail:
        raise _unreadable("a file is not as long as it says, or is damaged")
    return unpacked


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise PolicyRefusal(
            "bundle has an entry whose name is not ASCII; expected plain files, relative paths"
        ) from None


def _unreadable(why: str) -> PolicyRefusal:
    return PolicyRefusal(
        f"bundle cannot be read: {why}; expected a Flower App Bundle made by `flwr build`"
    )
