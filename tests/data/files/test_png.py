"""PNG files whose pixels are damaged or not all there, which Pillow shows without a word."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from primia_flwr.data.files.images import decode
from primia_flwr.data.files.masks import decode_mask
from primia_flwr.errors import DataError
from tests.data.files.variants import picture
from tests.data.files.writers import png, tiff

EIGHT = picture(top=255).astype(np.uint8)
DEEP = EIGHT.astype(np.uint16) * 257
PASSES = [
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def written(path: Path, raw: bytes, *, bits: int, adam7: bool = False) -> Path:
    """Write a grey file of 64 x 48 pixels around these rows."""
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", 64, 48, bits, 0, 0, 0, adam7))
    pixels = chunk(b"IDAT", zlib.compress(raw))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b""))
    return path


def rows(bits: int, *, adam7: bool) -> bytes:
    """Return the rows of the picture, each behind its filter."""
    kind = EIGHT if bits == 8 else DEEP.astype(">u2")
    parts = [kind[y::dy, x::dx] for x, y, dx, dy in PASSES] if adam7 else [kind]
    return b"".join(b"\0" + row.tobytes() for part in parts for row in part)


@pytest.mark.parametrize("adam7", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_rows_that_are_not_there_are_not_black(tmp_path: Path, bits: int, adam7: bool) -> None:
    whole = rows(bits, adam7=adam7)
    path = written(tmp_path / "a.png", whole, bits=bits, adam7=adam7)
    assert np.array_equal(decode(path), EIGHT)
    with pytest.raises(DataError, match=r"b\.png: damaged or cut off; expected an intact PNG"):
        decode(written(tmp_path / "b.png", whole[:-1], bits=bits, adam7=adam7))


def test_a_black_last_row_is_no_damage(tmp_path: Path) -> None:
    black = np.zeros((48, 64), np.uint8)
    assert not decode(png(tmp_path / "a.png", black, bits=8)).any()
    assert not decode(png(tmp_path / "b.png", black, bits=1)).any()


def test_a_wrong_checksum_of_pixels_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(EIGHT).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 1500] ^= 64  # of one pixel, stored as it is
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: damaged or cut off"):
        decode(path)
    with pytest.raises(DataError, match=r"a\.png: damaged or cut off"):
        decode_mask(path, range(256), image=path)


@pytest.mark.parametrize("turn", range(2, 9))
def test_the_orientation_of_16_bits(tmp_path: Path, turn: int) -> None:
    turned = Image.Exif()
    turned[0x0112] = turn
    eight, deep = tmp_path / "8.png", tmp_path / "16.png"
    Image.fromarray(EIGHT).save(eight, exif=turned)
    Image.fromarray(DEEP).save(deep, exif=turned)
    assert np.array_equal(decode(deep), decode(eight))
    assert decode(deep).shape == ((64, 48) if turn > 4 else (48, 64))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda f: tiff(f, DEEP >> 6, bits=10),
            "damaged or cut off, or not known; expected a TIFF file",
        ),
        (
            lambda f: tiff(f, np.stack([DEEP] * 3, -1), photometric=2, planes=True),
            "has colours of more than 8 bits, stored in planes, which are not read; expected",
        ),
    ],
)
def test_a_kind_that_is_not_read_is_told_from_damage(tmp_path: Path, make, says: str) -> None:
    with pytest.raises(DataError, match=rf"a\.tif: {says}"):
        decode(make(tmp_path / "a.tif"))


def test_no_library_writes_to_the_terminal(tmp_path: Path) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[20:600] = bytes(580)
    (tmp_path / "a.tif").write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from primia_flwr.data.files.images import decode\n"
        "try: decode(Path(sys.argv[1]))\nexcept Exception as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.tif")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a.tif: damaged or cut off; expected an intact TIFF file" in ended.stdout
    assert ended.stderr == ""
