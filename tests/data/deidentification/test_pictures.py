"""PNG, JPEG and TIFF lose everything but their pixels, which stay bit for bit."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from primia_flwr.data.deidentification.copies import bare_copy
from primia_flwr.data.deidentification.pictures import bare_png, bare_tiff
from primia_flwr.data.deidentification.segments import bare_jpeg, bare_jpeg_2000
from primia_flwr.data.files.images import decode
from primia_flwr.data.pseudonyms import Pseudonyms
from primia_flwr.errors import DataError

KEYS = Pseudonyms(b"k" * 32)
SECRET = b"GEHEIM"
RNG = np.random.default_rng(1)
GREY = np.kron(RNG.integers(0, 256, (6, 5), np.uint8), np.ones((4, 4), np.uint8))
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>GEHEIM</x:xmpmeta>"
IPTC = b"8BIM\x04\x04\0\0\0\0\0\x0b\x1c\x02\x78\0\x06GEHEIM\0"


def exif(orientation: int = 1) -> bytes:
    found = Image.Exif()
    found[ExifTags.Base.ImageDescription] = "GEHEIM"
    found[ExifTags.Base.Artist] = "GEHEIM"
    found[ExifTags.Base.Orientation] = orientation
    found.get_ifd(ExifTags.IFD.GPSInfo)[1] = "GEHEIM"
    return found.tobytes()


def icc() -> bytes:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:-6] + SECRET


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def check(path: Path, suffix: str) -> bytes:
    """Assert that a copy tells nothing and shows the same; return it."""
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    bare = bare_copy(path, scratch, "p1", KEYS)
    assert SECRET in path.read_bytes()
    assert SECRET not in bare.content
    assert bare.suffix == suffix
    assert bare.removed
    assert list(scratch.iterdir()) == []
    again = path.with_name(f"again{suffix}")
    again.write_bytes(bare.content)
    assert np.array_equal(decode(path), decode(again))
    with Image.open(again) as image:
        image.load()
        told = {k: v for k, v in image.info.items() if k not in ("exif", "dpi", "gamma", "jfif")}
        tags = set(image.getexif()) - {0x0112} if suffix != ".tif" else set()
    assert not tags
    assert not {"comment", "icc_profile", "xmp", "photoshop", "Comment", "XML:com.adobe.xmp"} & set(
        told
    )
    return bare.content


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_an_orientation_stays_and_all_else_goes(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    path, more = tmp_path / "a", {}
    if kind == "JPEG":
        more = {"comment": SECRET, "xmp": XMP, "icc_profile": icc(), "dpi": (300, 300)}
    if kind == "TIFF":
        more = {"description": "GEHEIM", "artist": "GEHEIM", "icc_profile": icc()}
    save(path, Image.fromarray(GREY), format=kind, exif=exif(orientation), **more)
    content = check(path, {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif"}[kind])
    with Image.open(io.BytesIO(content)) as image:
        assert image.getexif().get(0x0112, 1) == orientation


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_kinds_of_jpeg(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(GREY).convert(mode), comment=SECRET, **options)
    check(path, ".jpg")


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("marker", [*range(0xE0, 0xF0), 0xFE])
def test_every_segment_of_an_application_goes(tmp_path: Path, marker: int) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(GREY))
    content = path.read_bytes()
    for body in (SECRET, b"JFXX\0" + SECRET, b"Photoshop 3.0\0" + IPTC, b"MPF\0" + SECRET):
        extra = segment(marker, body)
        at = 2 + 2 + struct.unpack(">H", content[4:6])[0]
        path.write_bytes(content[:at] + extra + content[at:])
        check(path, ".jpg")


def test_a_thumbnail_of_jfif_and_what_adobe_adds_go() -> None:
    out = io.BytesIO()
    Image.fromarray(GREY).save(out, "JPEG")
    plain = out.getvalue()
    jfif = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\2\1" + SECRET)
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\0" + SECRET)
    bare, removed = bare_jpeg(plain[:2] + jfif + adobe + plain[20:] + b"\xff\xd8" + SECRET)
    assert SECRET not in bare
    assert removed == ["APP0 JFIF thumbnail", "APP14", "data after the image"]
    assert b"JFIF" in bare
    assert b"Adobe" in bare


@pytest.mark.parametrize("cut", [1, 3, 25, 200])
def test_a_jpeg_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    content = save(tmp_path / "a.jpg", Image.fromarray(GREY)).read_bytes()
    with pytest.raises(ValueError, match=r"end|begin"):
        bare_jpeg(content[:cut])


def test_a_comment_of_jpeg_2000_goes() -> None:
    out = io.BytesIO()
    Image.fromarray(GREY).save(out, "JPEG2000", no_jp2=True, comment="GEHEIM")
    content = out.getvalue()
    assert SECRET in content
    bare, removed = bare_jpeg_2000(content)
    assert SECRET not in bare
    assert removed == ["COM"]
    with Image.open(io.BytesIO(bare)) as image:
        assert np.array_equal(np.asarray(image), GREY)
    with pytest.raises(ValueError, match="JPEG 2000"):
        bare_jpeg_2000(b"\0\0\0\x0cjP  ")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    "kind", [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"sPLT", b"hIST", b"prVt", b"caBX"]
)
@pytest.mark.parametrize("where", ["before", "behind"])
def test_every_chunk_beside_the_pixels_goes(tmp_path: Path, kind: bytes, where: str) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(GREY))
    content = path.read_bytes()
    at = 33 if where == "before" else len(content) - 12
    bodies = {b"tEXt": b"Author\0GEHEIM", b"iTXt": b"A\0\0\0\0\0GEHEIM", b"sPLT": b"GEHEIM\0\x08"}
    bodies |= {b"zTXt": b"GEHEIM\0\0" + zlib.compress(SECRET)}
    extra = chunk(kind, bodies.get(kind, SECRET))
    path.write_bytes(content[:at] + extra + content[at:])
    check(path, ".png")


def test_text_profile_and_what_follows_a_png_go(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "GEHEIM")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    path = save(tmp_path / "a.png", Image.fromarray(GREY), pnginfo=info, icc_profile=icc())
    path.write_bytes(path.read_bytes() + SECRET)
    check(path, ".png")


@pytest.mark.parametrize("colours", [0, 2, 4, 6])
def test_png_of_16_bits_keeps_them(tmp_path: Path, colours: int) -> None:
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colours]
    values = RNG.integers(0, 1 << 16, (8, 8, samples)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    body = struct.pack(">LLBBBBB", 8, 8, 16, colours, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body) + chunk(b"tEXt", b"a\0GEHEIM")
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(content)
    bare = check(path, ".png")
    assert bare == content.replace(chunk(b"tEXt", b"a\0GEHEIM"), b"")


def test_a_palette_and_its_transparency_stay(tmp_path: Path) -> None:
    image = Image.fromarray(GREY).convert("P")
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "GEHEIM")
    check(save(tmp_path / "a.png", image, transparency=3, pnginfo=info), ".png")


@pytest.mark.parametrize("cut", [4, 12, 40])
def test_a_png_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    content = save(tmp_path / "a.png", Image.fromarray(GREY)).read_bytes()
    with pytest.raises(ValueError, match=r"end|begin"):
        bare_png(content[:cut])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"]
)
def test_kinds_of_tiff(tmp_path: Path, compression: str, big: bool) -> None:
    image = Image.fromarray(GREY).convert("1" if compression == "group4" else "L")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432):
        tags[tag] = "GEHEIM"
    tags[700], tags[37724], tags[65000] = XMP, SECRET, "GEHEIM"
    tags.tagtype[700] = tags.tagtype[37724] = 7
    path = save(
        tmp_path / "a.tif", image, compression=compression, tiffinfo=tags, big_tiff=big, dpi=(9, 9)
    )
    content = check(path, ".tif")
    with Image.open(io.BytesIO(content)) as bare:
        kept = set(bare.tag_v2)  # type: ignore[attr-defined]
    assert not kept & {269, 270, 271, 272, 285, 305, 306, 315, 316, 33432, 700, 37724, 65000, 34665}


@pytest.mark.parametrize("values", [GREY.astype("<u2") * 200, GREY.astype("<f4") / 255])
@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_tiff_of_both_byte_orders(tmp_path: Path, values: np.ndarray, order: str) -> None:
    image = Image.fromarray(values)
    if order == ">" and image.mode == "I;16":
        image = Image.frombytes("I;16B", image.size, values.astype(">u2").tobytes())
    path = save(tmp_path / "a.tif", image, description="GEHEIM")
    check(path, ".tif")


def test_a_tiff_that_points_beyond_its_end_is_refused(tmp_path: Path) -> None:
    content = save(tmp_path / "a.tif", Image.fromarray(GREY)).read_bytes()
    with pytest.raises((ValueError, struct.error)):
        bare_tiff(content[: len(content) // 2])
    with pytest.raises(ValueError, match="begin"):
        bare_tiff(b"XX*\0")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match=r"a\.png"):
        bare_copy(path, tmp_path, "p1", KEYS)
