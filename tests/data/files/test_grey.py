"""From stored values to grey levels, element by element, against the formulas of PS3.3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from primia_flwr.data.files.decoding import sources
from primia_flwr.data.files.images import decode
from primia_flwr.errors import DataError
from tests.data.files.variants import dataset, lut, picture, set_pixels, write

DEEP = picture()
Array = np.ndarray[Any, Any]


def made(
    values: Array = DEEP, *, stored: int = 12, allocated: int = 16, signed: bool = False,
    photometric: str = "MONOCHROME2", high: int | None = None, junk: int = 0, **fields: Any,
) -> FileDataset:  # fmt: skip
    found = dataset(photometric)
    set_pixels(
        found, values, allocated=allocated, stored=stored, signed=signed, high=high, junk=junk
    )
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def shown(folder: Path, found: FileDataset) -> Array:
    return decode(write(found, folder / "a.dcm")).astype(float)


def stretched(values: Array, low: float | None = None, high: float | None = None) -> Array:
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    return np.rint(255 * np.clip((values - low) / (high - low), 0, 1))


def windowed(values: Array, centre: float, width: float) -> Array:
    return stretched(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def near(found: Array, expected: Array) -> bool:
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= 1)


@pytest.mark.parametrize("slope", [1, -1, 0.25, -2.5])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_window_after_rescale(tmp_path: Path, slope: float, photometric: str, signed: bool) -> None:
    stored = DEEP - 2048 * signed
    values = stored * slope + 37
    centre, width = float(np.median(values)), float(np.ptp(values)) / 2
    found = made(
        stored, signed=signed, photometric=photometric, RescaleSlope=slope, RescaleIntercept=37,
        WindowCenter=round(centre, 3), WindowWidth=round(width, 3),
    )  # fmt: skip
    expected = windowed(values, centre, width)
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    assert near(shown(tmp_path, found), expected)


@pytest.mark.parametrize("descending", [False, True])
def test_modality_table_then_window(tmp_path: Path, descending: bool) -> None:
    entries = np.arange(4096)[:: -1 if descending else 1] * 3
    found = made(WindowCenter=6000, WindowWidth=9000)
    found.ModalityLUTSequence = Sequence([lut(4096, 0, 16, entries)])
    assert near(shown(tmp_path, found), windowed(entries[DEEP], 6000, 9000))
    found = made()
    found.ModalityLUTSequence = Sequence([lut(4096, 0, 16, entries)])
    assert near(shown(tmp_path, found), stretched(entries[DEEP]))


def with_window(
    centre: bytes, width: bytes, vr: str = "DS", function: str | None = None
) -> FileDataset:
    found = made()
    for keyword, content in (("WindowCenter", centre), ("WindowWidth", width)):
        found.add_new(keyword, "LO", content.decode())
        found[keyword].VR = vr if vr != "DS" else "LO"
    if function is not None:
        found.VOILUTFunction = function
    return found


@pytest.mark.parametrize(
    ("centre", "width"),
    [
        (b"0", b"0"), (b"2000", b"0"), (b"2000", b"-5"), (b"", b""), (b"2000", b""), (b"", b"300"),
        (b"2000 HU", b"300"), (b"2000", b"wide"), (b"nan", b"300"), (b"2000", b"inf"),
        (b"1e300", b"10"), (b"2,000", b"300"),
    ],
)  # fmt: skip
def test_what_is_no_window_counts_as_none(tmp_path: Path, centre: bytes, width: bytes) -> None:
    assert near(shown(tmp_path, with_window(centre, width)), stretched(DEEP))


def test_the_first_of_several_windows(tmp_path: Path) -> None:
    found = made(WindowCenter=[1500, 40], WindowWidth=[1000, 80])
    assert near(shown(tmp_path, found), windowed(DEEP, 1500, 1000))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (None, windowed(DEEP, 2000, 1000)),
        ("LINEAR", windowed(DEEP, 2000, 1000)),
        ("", windowed(DEEP, 2000, 1000)),
        ("SAMPLED_SIGMOID", windowed(DEEP, 2000, 1000)),
        ("LINEAR_EXACT", stretched(DEEP, 1500, 2500)),
        ("SIGMOID", 255 / (1 + np.exp(-4 * (DEEP - 2000) / 1000))),
    ],
)
def test_functions_of_a_window(tmp_path: Path, function: str | None, expected: Array) -> None:
    found = made(WindowCenter=2000, WindowWidth=1000)
    if function is not None:
        found.VOILUTFunction = function
    assert near(shown(tmp_path, found), expected)


def test_windows_of_one_and_less(tmp_path: Path) -> None:
    one = made(WindowCenter=2000, WindowWidth=1)
    assert near(shown(tmp_path, one), np.where(DEEP > 1999.5, 255, 0))
    parts = made(RescaleSlope=0.0001, RescaleIntercept=0, WindowCenter=0.2, WindowWidth=0.3)
    assert near(shown(tmp_path, parts), stretched(DEEP * 0.0001, 0.05, 0.35))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("bits", "count", "packed"),
    [(8, 256, False), (8, 4096, False), (8, 4096, True), (8, 4095, True), (12, 4096, False),
     (16, 4096, False), (16, 65536, False), (10, 1000, False)],
)  # fmt: skip
def test_voi_tables(tmp_path: Path, order: str, bits: int, count: int, packed: bool) -> None:
    top = 2**bits - 1
    entries = np.rint((np.arange(count) / (count - 1)) ** 0.5 * top)
    found = dataset(syntax=ExplicitVRBigEndian if order == ">" else ExplicitVRLittleEndian)
    set_pixels(found, DEEP, allocated=16, stored=12)
    found.VOILUTSequence = Sequence([lut(count, 0, bits, entries, packed=packed, order=order)])
    expected = entries[np.clip(DEEP, 0, count - 1)] / top * 255
    assert near(shown(tmp_path, found), expected)


def test_a_voi_table_comes_before_a_window(tmp_path: Path) -> None:
    found = made(WindowCenter=100, WindowWidth=10)
    entries = np.arange(4096)[::-1]
    found.VOILUTSequence = Sequence([lut(4096, 0, 12, entries)])
    assert near(shown(tmp_path, found), 255 - stretched(DEEP, 0, 4095))
    found.VOILUTSequence = Sequence([])
    assert near(shown(tmp_path, found), windowed(DEEP, 100, 10))


@pytest.mark.parametrize("vr", ["US", "SS", "OW", "implicit"])
def test_a_voi_table_may_begin_below_zero(tmp_path: Path, vr: str) -> None:
    found = made(RescaleSlope=1, RescaleIntercept=-1024)
    if vr == "implicit":
        found = dataset(syntax=ImplicitVRLittleEndian)
        set_pixels(found, DEEP, allocated=16, stored=12)
        found.RescaleSlope, found.RescaleIntercept = 1, -1024
    first = 65536 - 1024 if vr == "US" else -1024  # as some write it
    item = lut(4096, first, 12, np.arange(4096), first_vr="US" if vr == "US" else "SS")
    if vr == "OW":
        item.add_new("LUTDescriptor", "OW", np.array([4096, -1024, 12], "<i2").tobytes())
    found.VOILUTSequence = Sequence([item])
    assert near(shown(tmp_path, found), stretched(DEEP, 0, 4095))


def test_a_voi_table_of_signed_first_input_beyond_32767(tmp_path: Path) -> None:
    values = picture(top=65535)
    found = made(values, stored=16)
    entries = np.linspace(0, 65535, 5536)
    found.VOILUTSequence = Sequence([lut(5536, 60000 - 65536, 16, entries, first_vr="SS")])
    expected = np.rint(entries)[np.clip(values - 60000, 0, 5535)] / 65535 * 255
    assert near(shown(tmp_path, found), expected)


def test_entries_beyond_the_bits_of_their_descriptor(tmp_path: Path) -> None:
    found = made()
    found.VOILUTSequence = Sequence([lut(4096, 0, 8, np.arange(4096))])
    assert near(shown(tmp_path, found), stretched(DEEP, 0, 4095))
    found.VOILUTSequence = Sequence([lut(4096, 0, 16, np.arange(4096))])  # the header says so
    assert near(shown(tmp_path, found), DEEP / 65535 * 255)


@pytest.mark.parametrize(
    ("descriptor", "entries", "says"),
    [
        ([4096, 0, 12], 100, "LUTData is '200 bytes'; expected 4096 entries"),
        ([4096, 0, 0], 4096, "LUTDescriptor is '0 bits'"),
        ([4096, 0, 17], 4096, "LUTDescriptor is '17 bits'"),
        ([4096, 0], 4096, "LUTDescriptor is .*; expected three numbers"),
    ],
)
def test_tables_that_are_none(
    tmp_path: Path, descriptor: list[int], entries: int, says: str
) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "OW", np.arange(entries, dtype="<u2").tobytes())
    found = made()
    found.VOILUTSequence = Sequence([item])
    with pytest.raises(DataError, match=says):
        shown(tmp_path, found)


@pytest.mark.parametrize(("shift", "junk"), [(0, 0xFFFF), (4, 0xFFFF), (2, 0x5A5A), (4, 0)])
@pytest.mark.parametrize("signed", [False, True])
def test_overlay_bits_are_no_part_of_a_value(
    tmp_path: Path, shift: int, junk: int, signed: bool
) -> None:
    values = DEEP - 2048 * signed
    found = made(values, signed=signed, high=11 + shift, junk=junk)
    assert near(shown(tmp_path, found), stretched(values))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_overlay_bits_of_a_compressed_image(tmp_path: Path, syntax: UID, signed: bool) -> None:
    values = DEEP - 2048 * signed
    found = made(values, junk=0xF000)
    found.BitsStored, found.HighBit = 16, 15  # all 16 bits are in the codestream
    found.compress(syntax)
    found.BitsStored, found.HighBit, found.PixelRepresentation = 12, 11, int(signed)
    assert near(shown(tmp_path, found), stretched(values))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_colours_of_12_bits(tmp_path: Path, syntax: UID) -> None:
    samples = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], axis=-1)
    found = made(samples, photometric="RGB", SamplesPerPixel=3, PlanarConfiguration=0)
    found.compress(syntax)
    assert near(shown(tmp_path, found), samples / 4095 * 255)


def test_padding_is_left_out_of_the_range(tmp_path: Path) -> None:
    values = np.clip(DEEP, 500, 3000)
    values[:6], values[-3:] = 0, 20
    real = values[6:-3]
    alone = made(values, PixelPaddingValue=0)
    assert near(shown(tmp_path, alone), stretched(values, 20, real.max()))
    for first, last in ((0, 20), (20, 0), (0, 499)):
        ranged = made(values, PixelPaddingValue=first, PixelPaddingRangeLimit=last)
        assert near(shown(tmp_path, ranged), stretched(values, real.min(), real.max()))
    windowed_ = made(values, PixelPaddingValue=0, WindowCenter=2000, WindowWidth=1000)
    assert near(shown(tmp_path, windowed_), windowed(values, 2000, 1000))


@pytest.mark.parametrize(("vr", "padding"), [("SS", -2000), ("US", 65536 - 2000)])
def test_signed_padding(tmp_path: Path, vr: str, padding: int) -> None:
    values = DEEP - 1024
    values[:6] = -2000
    found = made(values, signed=True, stored=16)
    found.add_new("PixelPaddingValue", vr, padding)
    real = values[6:]
    assert near(shown(tmp_path, found), stretched(values, real.min(), real.max()))
    found.add_new("PixelPaddingRangeLimit", "SS", -1500)
    assert near(shown(tmp_path, found), stretched(values, real.min(), real.max()))


def test_padding_outside_the_stored_bits(tmp_path: Path) -> None:
    values = DEEP.copy()
    values[:6] = 0
    found = made(values)
    words = np.frombuffer(found.PixelData, "<u2").reshape(values.shape).copy()
    words[:6] = 63536  # -2000 in 16 bits, of which 12 are stored
    found.PixelData = words.tobytes()
    found.add_new("PixelPaddingValue", "US", 63536)
    values[:6] = 63536 & 4095
    real = values[6:]
    assert near(shown(tmp_path, found), stretched(values, real.min(), real.max()))
    other = made(DEEP)
    other.add_new("PixelPaddingValue", "US", 65535)  # of which there is none
    assert near(shown(tmp_path, other), stretched(DEEP))


@pytest.mark.parametrize("value", [0, 700])
def test_all_padding(tmp_path: Path, value: int) -> None:
    flat = made(np.full((4, 4), value), PixelPaddingValue=value)
    assert shown(tmp_path, flat).tolist() == [[0] * 4] * 4


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "LIN OD", True),
        ("MONOCHROME1", "", True),
    ],
)
def test_the_presentation_shape_comes_before_the_photometric_interpretation(
    tmp_path: Path, photometric: str, shape: str, inverted: bool
) -> None:
    found = made(DEEP, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    levels = stretched(DEEP)
    assert near(shown(tmp_path, found), 255 - levels if inverted else levels)


@pytest.mark.parametrize(
    ("photometric", "keyword", "value", "says"),
    [
        ("RGB", "PixelRepresentation", 1, "PixelRepresentation is 1; expected 0 with RGB"),
        ("YBR_FULL_422", "Columns", 63, "Columns is 63; expected an even number"),
    ],
)
def test_colours_that_cannot_be(
    tmp_path: Path, photometric: str, keyword: str, value: int, says: str
) -> None:
    found = dataset(photometric)
    found.SamplesPerPixel, found.PlanarConfiguration = 3, 0
    set_pixels(found, np.zeros((48, 64, 3), int), allocated=8, stored=8)
    setattr(found, keyword, value)
    if photometric == "YBR_FULL_422":
        found.PixelData = bytes(48 * 63 * 2)
    with pytest.raises(DataError, match=says):
        shown(tmp_path, found)


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_float_pixels(tmp_path: Path, kind: str) -> None:
    values = DEEP / 100.0
    values[3, 3], values[0, 0] = np.nan, -9999
    found = made(DEEP, RescaleSlope=-1, RescaleIntercept=0)
    del found.PixelData, found.BitsStored, found.HighBit
    name, bits = ("FloatPixelData", 32) if kind == "f4" else ("DoubleFloatPixelData", 64)
    found.BitsAllocated = bits
    setattr(found, name, values.astype(f"<{kind}").tobytes())
    setattr(found, name.replace("Data", "PaddingValue"), -9999.0)
    out = shown(tmp_path, found)
    real = np.ones(values.shape, bool)
    real[3, 3] = real[0, 0] = False
    assert near(out[real], 255 - stretched(values[real]))
    assert [out[3, 3], out[0, 0]] == [0, 255]  # darkest, and beyond the range


@pytest.mark.parametrize(("allocated", "stored"), [(1, 1), (8, 8), (32, 32), (32, 20)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_bits_allocated(tmp_path: Path, allocated: int, stored: int, photometric: str) -> None:
    values = picture(40, 36, top=2**stored - 1)
    found = made(values, allocated=max(allocated, 8), stored=stored, photometric=photometric)
    if allocated == 1:
        found.BitsAllocated = 1
        found.PixelData = np.packbits(values.astype("u1").reshape(-1), bitorder="little").tobytes()
    expected = stretched(values)
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    assert near(shown(tmp_path, found), expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("planar", [0, 1])
def test_colours_span_what_their_bits_can_hold(tmp_path: Path, bits: int, planar: int) -> None:
    plane = picture(top=2**bits - 1) // 2
    planes = [plane, plane[::-1], plane[:, ::-1]]
    found = made(np.stack(planes, axis=-1), allocated=8 if bits == 8 else 16, stored=bits,
                 photometric="RGB", SamplesPerPixel=3, PlanarConfiguration=planar)  # fmt: skip
    if planar:
        kind = "u1" if bits == 8 else "<u2"
        found.PixelData = np.stack(planes).astype(kind).tobytes()
    assert near(shown(tmp_path, found), np.stack(planes, axis=-1) / (2**bits - 1) * 255)


def test_a_segmented_palette(tmp_path: Path) -> None:
    indices = np.arange(256).reshape(16, 16)
    found = made(indices, allocated=8, stored=8, photometric="PALETTE COLOR")
    # Discrete 0, a line over 127 entries to 254, and twice 100; the last two again, from the second
    words = [0, 1, 0, 1, 127, 254, 0, 2, 100, 100, 2, 2, 6, 0]
    table = [0.0, *np.rint(np.arange(1, 128) * 2).tolist(), 100, 100]
    line = np.rint(100 + (254 - 100) * np.arange(1, 128) / 127).tolist()
    table = (table + line + [100, 100])[:256]
    for name in ("Red", "Green", "Blue"):
        found.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        raw = np.array(words, "<u2").tobytes()
        found.add_new(f"Segmented{name}PaletteColorLookupTableData", "OW", raw)
    out = shown(tmp_path, found)
    assert near(out[..., 1].reshape(-1), np.array(table)[:256] / 65535 * 255)


def test_elements_of_an_enhanced_object(tmp_path: Path) -> None:
    window, rescale, groups = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 1000, 1500
    rescale.RescaleSlope, rescale.RescaleIntercept = 0.5, 10
    groups.FrameVOILUTSequence = Sequence([window])
    groups.PixelValueTransformationSequence = Sequence([rescale])
    found = made(NumberOfFrames=1, SharedFunctionalGroupsSequence=Sequence([groups]))
    assert near(shown(tmp_path, found), windowed(DEEP * 0.5 + 10, 1000, 1500))


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("without", ["preamble", "meta", "syntax", "both"])
def test_files_without_their_beginning(
    tmp_path: Path, syntax: Any, without: str, suffix: str
) -> None:
    found = dataset(syntax=syntax)
    set_pixels(found, DEEP, allocated=16, stored=12)
    raw = write(found, tmp_path / "whole.dcm").read_bytes()
    meta = 132 + 12 + int.from_bytes(raw[140:144], "little")
    uid = raw.index(b"\x02\0\x10\0UI")
    beyond = uid + 8 + int.from_bytes(raw[uid + 6 : uid + 8], "little")
    path = tmp_path / f"IM1{suffix}"
    path.write_bytes({
        "preamble": raw[132:],
        "meta": raw[:132] + raw[meta:],
        "syntax": raw[:uid] + raw[beyond:],
        "both": raw[meta:],
    }[without])  # fmt: skip
    assert near(decode(path).astype(float), stretched(DEEP))


def test_pixels_in_big_endian_words_of_an_implicit_file(tmp_path: Path) -> None:
    found = dataset(syntax=ImplicitVRLittleEndian)
    set_pixels(found, DEEP, allocated=16, stored=12)
    found.PixelData = DEEP.astype(">u2").tobytes()
    raw = write(found, tmp_path / "a.dcm").read_bytes()
    uid = b"UI\x12\x001.2.840.10008.1.2\0"
    private = b"UI\x14\x001.2.840.113619.5.2\0\0"  # of GE
    assert uid in raw
    length = int.from_bytes(raw[140:144], "little")
    raw = raw[:140] + (length + 2).to_bytes(4, "little") + raw[144:].replace(uid, private)
    (tmp_path / "a.dcm").write_bytes(raw)
    assert near(decode(tmp_path / "a.dcm").astype(float), stretched(DEEP))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"SamplesPerPixel": 3}, "SamplesPerPixel is 3; expected 1 with MONOCHROME2"),
        ({"PhotometricInterpretation": "HSV"}, "PhotometricInterpretation is 'HSV'"),
        ({"BitsAllocated": 12}, "BitsAllocated is 12"),
        ({"BitsStored": 17}, "BitsStored is 17; expected 1 to 16"),
        ({"HighBit": 3}, "HighBit is 3; expected 11 to 15"),
        ({"PixelRepresentation": 2}, "PixelRepresentation is 2"),
        ({"RescaleSlope": 0}, "RescaleSlope is 0"),
        ({"RescaleSlope": [1, 2]}, "RescaleSlope is .*; expected one number"),
        ({"Rows": 0}, "Rows is 0; expected at least 1"),
        ({"PhotometricInterpretation": ""}, "PhotometricInterpretation is ''; expected one of"),
        ({"Rows": 96}, "6,144 bytes of pixels where 12,288 belong"),
        ({"Rows": 24}, "6,144 bytes of pixels where 3,072 belong"),
        ({"NumberOfFrames": 2}, "has 2 frames"),
    ],
)
def test_headers_that_contradict_themselves(
    tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    found = made()
    for name, value in fields.items():
        setattr(found, name, value)
    with pytest.raises(DataError, match=says):
        shown(tmp_path, found)


def test_a_header_of_endless_elements_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_MAX_READS", 1000)
    assert near(shown(tmp_path, made()), stretched(DEEP))
    raw = (tmp_path / "a.dcm").read_bytes()
    at = raw.index(b"\x10\0\x10\0PN")
    empty = b"".join(b"\x09\0" + n.to_bytes(2, "little") + b"LO\0\0" for n in range(16, 1200))
    (tmp_path / "a.dcm").write_bytes(raw[:at] + empty + raw[at:])
    with pytest.raises(DataError, match="too many elements"):
        decode(tmp_path / "a.dcm")
    monkeypatch.setattr(sources, "_MAX_ELEMENT", 1000)
    large = b"\x09\0\x10\x10UN\0\0" + (2000).to_bytes(4, "little") + bytes(2000)
    (tmp_path / "a.dcm").write_bytes(raw[:at] + large + raw[at:])
    with pytest.raises(DataError, match="an element before its pixels has 2,000 bytes"):
        decode(tmp_path / "a.dcm")
