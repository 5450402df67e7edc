"""Sound image files of every format that is read, small, to be changed."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from tests.data.files.variants import dataset, lut, picture, set_pixels, variant, write
from tests.data.files.writers import png, tiff

GREY = np.rint(picture(24, 20, top=255)).astype(np.uint8)
COMPRESSED = (
    "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "693_J2KI.dcm", "JPEG2000.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_rle_16bit.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jpeg_gdcm.dcm",
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    """Return the files by name; each is decoded as it is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {**_plain(), **_deep(folder), **_dicom(folder)}
    for name in COMPRESSED:
        path = get_testdata_file(name, download=False)
        assert path is not None
        found[name] = Path(str(path)).read_bytes()
    return found


def _plain() -> dict[str, bytes]:
    image = Image.fromarray(GREY)
    palette = image.convert("P")
    kinds = {
        "grey.png": (image, "PNG", {}),
        "palette.png": (palette, "PNG", {"transparency": 3}),
        "alpha.png": (image.convert("RGBA"), "PNG", {}),
        "grey.jpg": (image, "JPEG", {}),
        "colour.jpg": (image.convert("RGB"), "JPEG", {"progressive": True}),
        "cmyk.jpg": (image.convert("CMYK"), "JPEG", {}),
        "grey.tif": (image, "TIFF", {}),
        "lzw.tif": (image.convert("RGB"), "TIFF", {"compression": "tiff_lzw"}),
        "jpeg.tif": (image.convert("RGB"), "TIFF", {"compression": "jpeg"}),
        "fax.tif": (image.convert("1"), "TIFF", {"compression": "group4"}),
    }
    found = {}
    for name, (picture_, form, options) in kinds.items():
        stream = io.BytesIO()
        picture_.save(stream, form, **options)
        found[name] = stream.getvalue()
    return found


def _deep(folder: Path) -> dict[str, bytes]:
    deep = picture(24, 20)
    colour = np.stack([deep] * 3, axis=-1)
    paths = [
        png(folder / "deep.png", deep, chunks={"sBIT": b"\x0c"}),
        png(folder / "deep-rgba.png", np.concatenate([colour, colour[..., :1]], axis=-1)),
        png(folder / "deep-la.png", colour[..., :2]),
        tiff(folder / "deep.tif", deep, order=">", photometric=0, tags={274: 6, 281: 4095}),
        tiff(folder / "deep-rgb.tif", colour, photometric=2, deflated=True),
        tiff(folder / "packed.tif", deep, bits=12),
        tiff(folder / "tiles.tif", deep, tile=16),
        tiff(folder / "float.tif", deep / 4095, bits=32, sample_format=3),
    ]
    return {path.name: path.read_bytes() for path in paths}


def _dicom(folder: Path) -> dict[str, bytes]:
    found = {}
    for seed in (0, 1, 4, 5, 7, 11, 23, 31):  # windows, tables, palettes, colours
        path = write(variant(seed), folder / "a.dcm")
        found[f"variant-{seed}.dcm"] = path.read_bytes()
    for syntax in (
        ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian, JPEG2000Lossless,
    ):  # fmt: skip
        plain = syntax if not syntax.is_compressed or syntax.is_deflated else ExplicitVRLittleEndian
        made = dataset(syntax=plain)
        set_pixels(made, picture(40, 36), allocated=16, stored=12)
        made.WindowCenter, made.WindowWidth = [2000, 100], [3000, 50]
        made.RescaleSlope, made.RescaleIntercept, made.PixelPaddingValue = 2, -1024, 0
        if plain != syntax:
            made.compress(syntax)
        raw = write(made, folder / "a.dcm").read_bytes()
        found[f"{syntax.name}.dcm"] = raw
    made = dataset("PALETTE COLOR")
    set_pixels(made, np.arange(256).reshape(16, 16), allocated=8, stored=8)
    for name in ("Red", "Green", "Blue"):
        made.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        segments = np.array([0, 1, 0, 1, 127, 254, 0, 2, 100, 100, 2, 2, 6, 0], "<u2")
        made.add_new(f"Segmented{name}PaletteColorLookupTableData", "OW", segments.tobytes())
    found["segmented.dcm"] = write(made, folder / "a.dcm").read_bytes()
    made = dataset(syntax=ExplicitVRBigEndian)
    set_pixels(made, picture(24, 20, top=255), allocated=8, stored=8)
    made["PixelData"].VR = "OW"
    made.PixelData = np.frombuffer(made.PixelData, "u2").byteswap().tobytes()
    table = lut(256, 0, 8, np.arange(256), packed=True, order=">")
    made.VOILUTSequence = Sequence([table])
    found["packed.dcm"] = write(made, folder / "a.dcm").read_bytes()
    made = dataset()
    set_pixels(made, picture(24, 20, top=1), allocated=8, stored=1)
    made.BitsAllocated, made.PixelData = 1, bytes(range(60))
    made["PixelData"].VR = "OB"
    found["bits.dcm"] = write(made, folder / "a.dcm").read_bytes()
    found["bare"] = found["Implicit VR Little Endian.dcm"][132:]
    return found
