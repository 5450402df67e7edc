"""PNG and TIFF that are no plain bytes: values, what is white, transparency, orientation."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from primia_flwr.data.files.images import decode, depth_is_guessed
from primia_flwr.errors import DataError
from tests.data.files.variants import picture
from tests.data.files.writers import png, tiff

DEEP = picture(top=4095)
SHOWN = np.rint(DEEP / 4095 * 255)


def near(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], by: float = 1) -> bool:
    return found.shape == expected.shape and bool(
        np.abs(found - expected.astype(float)).max() <= by
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("top", [4095, 65535])
def test_png_of_16_bits_keeps_12(tmp_path: Path, channels: int, top: int) -> None:
    grey = picture(top=top)
    colours = 1 if channels < 3 else 3
    samples = np.stack([grey] * colours, axis=-1)
    if channels in (2, 4):
        samples = np.concatenate([samples, np.full_like(grey, 65535)[..., None]], axis=-1)
    samples = samples[..., 0] if channels == 1 else samples
    assert near(decode(png(tmp_path / "a.png", samples)), grey / top * 255, 0.51)


def test_png_colours_of_12_bits_in_16_keep_their_hue(tmp_path: Path) -> None:
    samples = np.stack([DEEP, DEEP[::-1], 4095 - DEEP], axis=-1)
    assert near(decode(png(tmp_path / "a.png", samples)), samples / 4095 * 255, 0.51)


def test_deep_transparency_is_laid_over_black(tmp_path: Path) -> None:
    half = np.full((8, 8, 4), 40000)
    half[..., 3] = np.array([[65535] * 4 + [32768] * 4] * 8)
    found = decode(png(tmp_path / "a.png", half))
    assert found[0, [0, 7]].tolist() == [156, 78]  # 40000 / 65535 * 255, and half of it
    grey = half[..., [0, 3]]
    assert decode(png(tmp_path / "b.png", grey))[0, [0, 7]].tolist() == [156, 78]
    keyed = np.full((8, 8), 65535)
    keyed[0, 0] = 513  # one value is clear; 512, with the same high byte, is not
    keyed[0, 1] = 512
    found = decode(png(tmp_path / "c.png", keyed, chunks={"tRNS": struct.pack(">H", 513)}))
    assert found[0, :3].tolist() == [0, 2, 255]


@pytest.mark.parametrize(("bits", "top"), [(1, 1), (2, 3), (4, 15), (8, 255)])
def test_png_of_few_bits(tmp_path: Path, bits: int, top: int) -> None:
    grey = picture(top=top)
    assert near(decode(png(tmp_path / "a.png", grey, bits=bits)), grey / top * 255)


def test_gamma_is_not_applied(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", DEEP * 16, chunks={"gAMA": struct.pack(">L", 100_000)})
    assert near(decode(path), SHOWN)


@pytest.mark.parametrize("bright", [4096, 5000, 65535])
def test_a_lone_bright_pixel_does_not_decide_what_is_white(tmp_path: Path, bright: int) -> None:
    lone = DEEP.copy()
    lone[10, 10] = bright
    expected = SHOWN.copy()
    expected[10, 10] = 255
    assert near(decode(png(tmp_path / "a.png", lone)), expected)
    assert near(decode(tiff(tmp_path / "a.tif", lone)), expected)


def test_many_bright_pixels_decide(tmp_path: Path) -> None:
    bright = DEEP.copy()
    bright[:, :8] = 65535
    assert near(decode(png(tmp_path / "a.png", bright)), bright / 65535 * 255)


def test_what_the_header_says_is_white(tmp_path: Path) -> None:
    dark = picture(top=900)  # would pass for 10 bits
    said = {"sBIT": bytes([12])}
    assert near(decode(png(tmp_path / "a.png", dark, chunks=said)), dark / 4095 * 255)
    whole = {"sBIT": bytes([16])}
    assert near(decode(png(tmp_path / "b.png", DEEP, chunks=whole)), DEEP / 65535 * 255)
    shifted = {"sBIT": bytes([12])}  # as PNG has it: values are scaled up to 16 bits
    assert near(decode(png(tmp_path / "c.png", DEEP * 16, chunks=shifted)), SHOWN)
    colours = np.stack([dark] * 3, axis=-1)
    said = {"sBIT": bytes([12, 12, 12])}
    assert near(decode(png(tmp_path / "d.png", colours, chunks=said)), dark / 4095 * 255)
    assert near(decode(tiff(tmp_path / "a.tif", dark, tags={281: 4095})), dark / 4095 * 255)
    assert near(decode(tiff(tmp_path / "b.tif", dark, tags={281: 65535})), dark / 65535 * 255)
    assert near(decode(tiff(tmp_path / "c.tif", dark, bits=12)), dark / 4095 * 255)


def test_whether_the_depth_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    told = {
        png(tmp_path / "a.png", DEEP): True,
        png(tmp_path / "b.png", DEEP, chunks={"sBIT": bytes([12])}): False,
        png(tmp_path / "c.png", DEEP // 16, bits=8): False,
        tiff(tmp_path / "a.tif", DEEP): True,
        tiff(tmp_path / "b.tif", DEEP, tags={281: 4095}): False,
        tiff(tmp_path / "c.tif", DEEP, bits=12): False,
        tiff(tmp_path / "d.tif", DEEP / 4095, bits=32, sample_format=3): True,
        tiff(tmp_path / "e.tif", DEEP // 16, bits=8): False,
        tmp_path / "text.png": False,
        tmp_path / "missing.png": False,
    }
    assert {path: depth_is_guessed(path) for path in told} == told


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_tiff_of_any_depth_and_polarity(
    tmp_path: Path, order: str, deflated: bool, photometric: int, bits: int
) -> None:
    grey = picture(top=2**bits - 1)
    stored = grey if photometric else 2**bits - 1 - grey
    path = tiff(
        tmp_path / "a.tif", stored, order=order, bits=bits, photometric=photometric,
        deflated=deflated, strips=3,
    )  # fmt: skip
    assert near(decode(path), grey / (2**bits - 1) * 255)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize(("bits", "sample_format"), [(8, 2), (16, 2), (32, 2), (32, 1), (32, 3)])
def test_tiff_signed_large_and_float(
    tmp_path: Path, order: str, deflated: bool, bits: int, sample_format: int
) -> None:
    values = picture(top=200) - 100.0 if sample_format != 1 else picture(top=3_000_000_000)
    path = tiff(
        tmp_path / "a.tif", values, order=order, bits=bits, sample_format=sample_format,
        deflated=deflated,
    )  # fmt: skip
    low, high = values.min(), values.max()
    assert near(decode(path), (values - low) / (high - low) * 255)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
def test_tiff_colours_of_16_bits(tmp_path: Path, order: str, deflated: bool) -> None:
    samples = np.stack([DEEP, DEEP[::-1], 4095 - DEEP], axis=-1)
    path = tiff(tmp_path / "a.tif", samples, order=order, photometric=2, deflated=deflated)
    assert near(decode(path), samples / 4095 * 255)


def test_tiff_colours_in_planes_are_refused_not_scrambled(tmp_path: Path) -> None:
    samples = np.stack([DEEP] * 3, axis=-1)
    with pytest.raises(DataError, match="stored in planes"):
        decode(tiff(tmp_path / "a.tif", samples, photometric=2, planes=True))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("turn", range(1, 9))
def test_tiff_orientation(tmp_path: Path, bits: int, deflated: bool, turn: int) -> None:
    grey = picture(top=2**bits - 1)
    path = tiff(tmp_path / "a.tif", grey, bits=bits, deflated=deflated, tags={274: turn})
    small = Image.fromarray(np.rint(grey / (2**bits - 1) * 255).astype(np.uint8))
    small.getexif()[274] = turn
    upright = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud,
               5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].T,
               8: np.rot90}[turn](np.asarray(small))  # fmt: skip
    assert ImageOps.exif_transpose(small).size == upright.shape[::-1]
    assert near(decode(path), upright)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("deflated", [False, True])
def test_tiff_in_tiles(tmp_path: Path, bits: int, deflated: bool) -> None:
    grey = picture(50, 70, top=2**bits - 1)
    path = tiff(tmp_path / "a.tif", grey, bits=bits, tile=16, deflated=deflated)
    assert near(decode(path), grey / (2**bits - 1) * 255)


def test_float_tiff_with_holes(tmp_path: Path) -> None:
    values = picture(top=1) + np.linspace(0, 3000, 64)
    values[3, 3], values[4, 4], values[5, 5] = np.nan, np.inf, -np.inf
    found = decode(tiff(tmp_path / "a.tif", values, bits=32, sample_format=3))
    real = np.isfinite(values)
    low, high = values[real].min(), values[real].max()
    assert near(found[real], (values[real] - low) / (high - low) * 255)
    assert [found[3, 3], found[4, 4], found[5, 5]] == [0, 255, 0]
    nothing = np.full((8, 8), np.nan)
    assert decode(tiff(tmp_path / "b.tif", nothing, bits=32, sample_format=3)).max() == 0
    white = tiff(tmp_path / "c.tif", 1 - picture(top=1000) / 1000, bits=32, sample_format=3,
                 photometric=0)  # fmt: skip
    assert near(decode(white), picture(top=1000) / 1000 * 255)


def test_animations_are_refused(tmp_path: Path) -> None:
    first = Image.fromarray(SHOWN.astype(np.uint8))
    second = Image.fromarray(255 - SHOWN.astype(np.uint8))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    with pytest.raises(DataError, match="has 2 pages"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize(("suffix", "channels"), [("png", 1), ("png", 4), ("tif", 1)])
def test_pixels_that_so_small_a_file_cannot_hold(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    shape = (9000, 9000) if channels == 1 else (5000, 5000, channels)
    samples = np.zeros(shape, np.uint8)
    if suffix == "png":
        path = png(tmp_path / "a.png", samples, bits=8)
    else:
        path = tiff(tmp_path / "a.tif", samples, bits=8, deflated=True)
    with pytest.raises(DataError, match="MiB of pixels in"):
        decode(path)
