"""PNG and TIFF files of every kind, which Pillow cannot write: small, from an array of samples."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def png(
    path: Path, samples: Array, *, bits: int = 16, chunks: dict[str, bytes] | None = None
) -> Path:
    """Write (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) samples; `chunks` come before the pixels."""
    height, width = samples.shape[:2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[1 if samples.ndim == 2 else samples.shape[2]]
    rows = samples.reshape(height, -1)
    if bits == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        lines = [_packed(row, bits) for row in rows]
    content = b"".join(b"\0" + line for line in lines)
    head = struct.pack(">LLBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [
        ("IHDR", head),
        *(chunks or {}).items(),
        ("IDAT", zlib.compress(content)),
        ("IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts))
    return path


def tiff(
    path: Path, samples: Array, *, order: str = "<", bits: int = 16, photometric: int = 1,
    sample_format: int = 1, deflated: bool = False, tile: int = 0, strips: int = 1,
    planes: bool = False, tags: dict[int, int] | None = None,
) -> Path:  # fmt: skip
    """Write (H, W) or (H, W, C) samples of `bits`, in strips or square tiles."""
    height, width = samples.shape[:2]
    count = 1 if samples.ndim == 2 else samples.shape[2]
    parts = _tiled(samples, tile) if tile else np.array_split(samples, strips)
    if planes:
        parts = [samples[..., band] for band in range(count)]
    blocks = [_block(part, order, bits, sample_format) for part in parts]
    blocks = [zlib.compress(block) for block in blocks] if deflated else blocks
    entries: dict[int, tuple[str, list[int]]] = {
        256: ("L", [width]), 257: ("L", [height]), 258: ("H", [bits] * count),
        259: ("H", [8 if deflated else 1]), 262: ("H", [photometric]), 277: ("H", [count]),
        284: ("H", [2 if planes else 1]), 339: ("H", [sample_format] * count),
    }  # fmt: skip
    if tile:
        entries |= {322: ("L", [tile]), 323: ("L", [tile])}
    else:
        entries[278] = ("L", [len(parts[0])])
    for number, value in (tags or {}).items():
        entries[number] = ("H", [value] * (count if number in (280, 281) else 1))
    offsets, lengths = (324, 325) if tile else (273, 279)
    at = 8
    places = []
    for block in blocks:
        places.append(at)
        at += len(block) + len(block) % 2
    entries |= {offsets: ("L", places), lengths: ("L", [len(block) for block in blocks])}
    body = b"".join(block + bytes(len(block) % 2) for block in blocks)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", at)
    path.write_bytes(head + body + _directory(entries, at, order))
    return path


def _directory(entries: dict[int, tuple[str, list[int]]], at: int, order: str) -> bytes:
    fixed, rest = b"", b""
    beyond = at + 2 + 12 * len(entries) + 4
    for number, (kind, values) in sorted(entries.items()):
        content = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(content) > 4:
            place = struct.pack(order + "L", beyond + len(rest))
            rest += content + bytes(len(content) % 2)
        else:
            place = content.ljust(4, b"\0")
        fixed += struct.pack(order + "HHL", number, 3 if kind == "H" else 4, len(values)) + place
    return struct.pack(order + "H", len(entries)) + fixed + bytes(4) + rest


def _block(part: Array, order: str, bits: int, sample_format: int) -> bytes:
    if bits % 8:
        return b"".join(_packed(row, bits) for row in part.reshape(len(part), -1))
    kind = {1: "u", 2: "i", 3: "f"}[sample_format]
    return part.astype(f"{order}{kind}{bits // 8}").tobytes()


def _tiled(samples: Array, size: int) -> list[Array]:
    height, width = samples.shape[:2]
    down, right = -height % size, -width % size
    padded = np.pad(samples, [(0, down), (0, right)] + [(0, 0)] * (samples.ndim - 2))
    return [
        padded[y : y + size, x : x + size]
        for y in range(0, height, size)
        for x in range(0, width, size)
    ]


def _packed(row: Array, bits: int) -> bytes:
    """Pack samples of so many bits, the first in the highest bits."""
    spread = (row[:, None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1)).tobytes()


def _chunk(name: str, content: bytes) -> bytes:
    named = name.encode() + content
    return struct.pack(">L", len(content)) + named + struct.pack(">L", zlib.crc32(named))
