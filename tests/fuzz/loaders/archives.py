"""Changes of a zip archive that leave it one: of names, contents, attributes and claimed sizes."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
from collections.abc import Callable

NAMES = (
    "../up.py", "/abs.py", "a//b.py", "./a.py", "a/../b.py", "A/B.PY", "a\\b.py", "é.py",
    "e\u0301.py", "a.pyc", "x.so", "x.pth", "con", "a/", "", "pyproject.toml", "\u202egnp.py",
    "a\0.py", "x" * 300, ".git/config", "sitecustomize.py", "__pycache__/a.pyc",
)  # fmt: skip
CONTENTS = (b"", b"\0", b"\xff\xfe", b"[" * 2000, b"a = 1\n", b"0" * 4_000_000)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
LINK, FOLDER, PIPE = 0o120777, 0o040755, 0o010644


def change_archive(
    raw: bytes, draw: random.Random, any_change: Callable[[bytes], bytes]
) -> bytes | None:
    """Return an archive with one change, or None where the bytes are none."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [(info, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return None
    if not entries or len(entries) > 200:
        return None
    at = draw.randrange(len(entries))
    info, content = entries[at]
    way = draw.randrange(8)
    if way == 0:
        entries[at] = (_named(info, draw.choice(NAMES)), content)
    elif way == 1:
        entries.append((_named(info, draw.choice((*NAMES, info.filename))), content))
    elif way == 2:
        entries[at] = (info, draw.choice(CONTENTS))
    elif way == 3:
        entries[at] = (info, any_change(content))
    elif way == 4:
        info.external_attr = draw.choice((LINK, FOLDER, PIPE, 0)) << 16
    elif way == 5:
        info.compress_type = draw.choice(METHODS)
    elif way == 6:
        del entries[at]
    written = _written(entries, comment=b"c" * draw.choice((0, 0, 0, 70)))
    return _with_other_numbers(written, draw) if way == 7 else written


def _named(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    other = zipfile.ZipInfo("x", info.date_time)
    other.filename, other.compress_type = name, info.compress_type
    return other


def _written(entries: list[tuple[zipfile.ZipInfo, bytes]], comment: bytes) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        archive.comment = comment
        for info, content in entries:
            archive.writestr(info, content, info.compress_type)
    return stream.getvalue()


def _with_other_numbers(raw: bytes, draw: random.Random) -> bytes:
    """Change a field of a header: sizes, flags, offsets, checksums."""
    content = bytearray(raw)
    mark = draw.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
    at = content.find(mark, draw.randrange(len(content)))
    if at >= 0:
        field = at + 4 + 2 * draw.randrange(20)
        number = draw.choice((0, 1, 0xFFFF, 0xFFFFFFFF, 2**30, len(raw)))
        content[field : field + 4] = struct.pack("<I", number)
    return bytes(content)
