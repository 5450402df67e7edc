from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from primia_flwr.data.files import images
from primia_flwr.data.files.images import decode, resize
from primia_flwr.data.files.listing import kind_of
from primia_flwr.errors import DataError

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_eight_bit_grey_is_kept(tmp_path: Path) -> None:
    assert np.array_equal(decode(save(tmp_path / "a.png", Image.fromarray(RAMP))), RAMP)


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(RAMP))
    assert np.array_equal(decode(path.rename(tmp_path / "a.jpeg")), RAMP)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("brightest", "white"), [(65535, 65535), (4095, 4095), (4000, 4095), (1000, 1023), (200, 255)]
)
def test_sixteen_bit_is_scaled_by_its_depth(
    tmp_path: Path, suffix: str, brightest: int, white: int
) -> None:
    deep = np.array([[0, brightest // 2], [brightest, 1]], dtype=np.uint16)
    expected = np.rint(deep / white * 255)
    assert np.array_equal(decode(save(tmp_path / f"a.{suffix}", Image.fromarray(deep))), expected)


def test_float_tiff_in_the_unit_range(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.5], [0.25, 0.75]], dtype=np.float32)
    decoded = decode(save(tmp_path / "a.tif", Image.fromarray(values)))
    assert decoded.tolist() == [[0, 128], [64, 191]]


def test_float_tiff_beyond_the_unit_range_is_stretched(tmp_path: Path) -> None:
    values = np.array([[-100.0, 0.0], [100.0, 50.0]], dtype=np.float32)
    decoded = decode(save(tmp_path / "a.tif", Image.fromarray(values)))
    assert decoded.tolist() == [[0, 128], [255, 191]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    assert decode(save(tmp_path / "a.tif", cyan))[0, 0].tolist() == [0, 255, 255]
    assert decode(save(tmp_path / "a.jpg", cyan)).shape == (4, 4, 3)


def test_grey_stored_as_rgb_becomes_grey(tmp_path: Path) -> None:
    rgb = Image.fromarray(RAMP).convert("RGB")
    assert np.array_equal(decode(save(tmp_path / "a.png", rgb)), RAMP)


def test_palette_and_bilevel(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(save(tmp_path / "p.png", palette))[0, 0].tolist() == [10, 20, 30]
    assert decode(save(tmp_path / "b.png", Image.new("1", (2, 2), 1))).tolist() == [[255, 255]] * 2


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 2), (200, 100, 50, 128))
    assert decode(save(tmp_path / "a.png", half))[0, 0].tolist() == [100, 50, 25]
    clear = Image.new("LA", (2, 2), (200, 0))
    assert decode(save(tmp_path / "b.png", clear)).tolist() == [[0, 0], [0, 0]]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    wide = Image.new("L", (32, 16))
    assert decode(save(tmp_path / "a.jpg", wide, exif=exif)).shape == (32, 16)


def test_large_jpeg_may_come_smaller_but_not_below_twice_the_target(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.new("L", (1600, 1200), 77))
    small = decode(path, at_least=100)
    assert small.shape == (300, 400)
    assert int(small[0, 0]) == 77


def truncated(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def test_bad_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    text = tmp_path / "text.png"
    text.write_text("not an image at all")
    empty = tmp_path / "empty.jpeg"
    empty.touch()
    bad = {
        "damaged or cut off": truncated(save(tmp_path / "cut.jpg", Image.fromarray(noise)), 0.5),
        "expected an intact PNG": truncated(save(tmp_path / "c.png", Image.fromarray(noise)), 0.6),
        "neither JPEG, PNG, TIFF nor DICOM": text,
        "replace or remove": empty,
        "cannot be opened": tmp_path / "missing.png",
    }
    for message, path in bad.items():
        with pytest.raises(DataError, match=message) as caught:
            decode(path)
        assert path.name in str(caught.value)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(RAMP)
    path = save(tmp_path / "a.tif", page, save_all=True, append_images=[page])
    with pytest.raises(DataError, match="has 2 pages"):
        decode(path)


def test_decompression_bomb_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (100, 100)))
    monkeypatch.setattr(images, "MAX_PIXELS", 9_999)
    with pytest.raises(DataError, match="claims 100 x 100 pixels"):
        decode(path)


@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0"])
)
def test_arbitrary_bytes_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, head: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.png"
    path.write_bytes(head + tail)
    with pytest.raises(DataError):
        decode(path)


def test_kinds() -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "PNG")
    assert kind_of(buffer.getvalue()[:132]) == "png"
    assert kind_of(bytes(128) + b"DICM") == "dicom"
    assert kind_of(b"MM\x00*") == "tiff"
    assert kind_of(b"") == ""


def test_squash_pad_and_crop() -> None:
    tall = np.zeros((8, 4), dtype=np.uint8)
    tall[2:6] = 200
    assert resize(np.full((8, 4), 9, np.uint8), 4, mode="squash", channels=1).tolist() == [
        [[9] * 4] * 4
    ]
    cropped = resize(tall, 4, mode="crop", channels=1)
    assert cropped.tolist() == [[[200] * 4] * 4]
    padded = resize(np.full((8, 4), 100, np.uint8), 8, mode="pad", channels=1)[0]
    assert padded[:, :2].max() == 0
    assert padded[:, 6:].max() == 0
    assert padded[:, 2:6].min() == 100


def test_channels() -> None:
    colour = np.zeros((4, 4, 3), dtype=np.uint8)
    colour[..., 0] = 255
    assert resize(colour, 4, mode="squash", channels=3)[:, 0, 0].tolist() == [255, 0, 0]
    assert resize(colour, 4, mode="squash", channels=1)[0, 0, 0] == 76  # 0.299 * 255
    assert resize(RAMP, 8, mode="squash", channels=3).tolist() == [RAMP.tolist()] * 3


def test_shrinking_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    small = resize(stripes, 16, mode="squash", channels=1)
    assert abs(float(small.mean()) - 127.5) < 3
    assert small.std() < 10


JPEGS = {
    "grey": ("L", {}),
    "progressive": ("L", {"progressive": True}),
    "restart markers": ("L", {"restart_marker_blocks": 4}),
    "colour": ("RGB", {}),
    "colour 4:4:4": ("RGB", {"subsampling": 0}),
    "CMYK": ("CMYK", {}),
    "rgb stored": ("RGB", {"keep_rgb": True}),
}


def _jpeg(kind: str) -> bytes:
    mode, how = JPEGS[kind]
    ramp = np.add.outer(np.arange(120), np.arange(130)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ramp).convert(mode).save(stream, "JPEG", quality=95, **how)
    return stream.getvalue()


def _scan_of(content: bytes) -> int:
    """Return where the entropy-coded data of the last scan begin."""
    start = content.rindex(b"\xff\xda")
    return start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")


@pytest.mark.parametrize("kind", JPEGS)
def test_an_intact_one_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(_jpeg(kind))
    assert decode(path).shape[:2] == (120, 130)
    assert decode(path, at_least=16).shape[0] >= 32


@pytest.mark.parametrize("kind", JPEGS)
def test_one_whose_data_stop_before_its_end_is_named(kind: str, tmp_path: Path) -> None:
    """As a copy that was cut off and closed again: Pillow shows grey where nothing came."""
    whole = _jpeg(kind)
    half = (_scan_of(whole) + len(whole)) // 2
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[:half] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"cut\.jpg: damaged or cut off; expected an intact JPEG"):
        decode(path)
    with pytest.raises(DataError, match=r"cut\.jpg: damaged or cut off"):
        decode(path, at_least=16)


def test_one_with_a_piece_of_zeros_is_named(tmp_path: Path) -> None:
    """As a disk that lost a block."""
    whole = bytearray(_jpeg("grey"))
    start = _scan_of(whole) + 200
    whole[start : start + 128] = bytes(128)
    path = tmp_path / "hole.jpg"
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"hole\.jpg: damaged"):
        decode(path)
