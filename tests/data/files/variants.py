"""DICOM files of every kind that this package shows, drawn by a seed; pictures by formula."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

NATIVE = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)  # fmt: skip


def picture(height: int = 48, width: int = 64, top: int = 4095) -> np.ndarray[Any, Any]:
    """Return a bright blob on a slope with a dark band, 0 to `top`, int64."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    shape = 0.15 + 0.75 * np.exp(-((x - 0.3) ** 2 + (y - 0.5) ** 2) / 0.03) + 0.5 * x * y
    shape[:6] = 0.02
    return np.rint(np.clip(shape, 0, 1) * top).astype(np.int64)


def dataset(photometric: str = "MONOCHROME2", syntax: UID = ExplicitVRLittleEndian) -> FileDataset:
    """Return a data set without pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    meta.TransferSyntaxUID = syntax
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    found = FileDataset(
        "", {}, preamble=bytes(128), file_meta=meta,
        is_implicit_VR=implicit, is_little_endian=little,
    )  # fmt: skip
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
    found.Modality, found.PatientID, found.PatientName = "DX", "PSEUDO-1", "X^Y"
    found.PhotometricInterpretation = photometric
    found.SamplesPerPixel = 1
    return found


def set_pixels(
    to: FileDataset, values: np.ndarray[Any, Any], *, allocated: int, stored: int,
    high: int | None = None, signed: bool = False, junk: int = 0,
) -> None:  # fmt: skip
    """Store values in `stored` bits below `high`; `junk` fills the unused ones."""
    high = stored - 1 if high is None else high
    shift, mask = high + 1 - stored, (1 << stored) - 1
    words = ((values & mask) << shift) | (junk & ~(mask << shift) & ((1 << allocated) - 1))
    to.Rows, to.Columns = values.shape[:2]
    to.BitsAllocated, to.BitsStored, to.HighBit = allocated, stored, high
    to.PixelRepresentation = int(signed)
    order = ">" if to.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    to.PixelData = words.astype(f"{order}u{allocated // 8}").tobytes()
    to["PixelData"].VR = "OB" if allocated == 8 else "OW"


def lut(
    count: int, first: int, bits: int, entries: np.ndarray[Any, Any], *, packed: bool = False,
    first_vr: str = "US", order: str = "<",
) -> Dataset:  # fmt: skip
    """Return an item with a lookup table."""
    item = Dataset()
    item.add_new("LUTDescriptor", first_vr, [count % 65536, first, bits])
    if packed:
        raw = entries.astype("u1").tobytes()
        raw += bytes(len(raw) % 2)
        if order == ">":
            raw = np.frombuffer(raw, "u2").byteswap().tobytes()
        item.add_new("LUTData", "OW", raw)
    else:
        item.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
    return item


def variant(seed: int) -> FileDataset:
    """Return one of them; the same for the same seed."""
    draw = random.Random(seed)
    syntax = draw.choice(NATIVE)
    if draw.random() < 0.25:
        return _colour(draw, syntax)
    return _grey(draw, syntax)


def _grey(draw: random.Random, syntax: UID) -> FileDataset:
    found = dataset(draw.choice(["MONOCHROME1", "MONOCHROME2"]), syntax)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    allocated, stored = draw.choice([(8, 8), (8, 6), (16, 16), (16, 12), (16, 12), (16, 10)])
    signed = draw.random() < 0.35
    high = draw.randrange(stored - 1, allocated) if draw.random() < 0.3 else stored - 1
    values = picture(top=2**stored - 1) - (2 ** (stored - 1) if signed else 0)
    junk = draw.getrandbits(allocated) if draw.random() < 0.4 else 0
    set_pixels(
        found, values, allocated=allocated, stored=stored, high=high, signed=signed, junk=junk
    )
    low, top = int(values.min()), int(values.max())
    kind = draw.choice(["none", "rescale", "rescale", "lut"])
    if kind == "rescale":
        found.RescaleSlope = draw.choice([1, -1, 2, -3])
        found.RescaleIntercept = draw.choice([0, -1024, 4095])
        ends = [found.RescaleSlope * v + found.RescaleIntercept for v in (low, top)]
        low, top = int(min(ends)), int(max(ends))
    elif kind == "lut":
        count = 2**stored
        entries = np.rint(np.linspace(0, 1, count) ** draw.choice([0.5, 1, 2]) * 65535)
        entries = entries[::-1] if draw.random() < 0.4 else entries
        vr = "SS" if signed else "US"
        item = lut(count, -(count // 2) if signed else 0, 16, entries, first_vr=vr, order=order)
        found.ModalityLUTSequence = Sequence([item])
        low, top = 0, 65535
    _voi(found, draw, low, top, order)
    return found


def _voi(found: FileDataset, draw: random.Random, low: int, top: int, order: str) -> None:
    kind = draw.choice(["none", "window", "window", "several", "sigmoid", "lut", "lut"])
    span = max(top - low, 4)
    if kind == "lut":
        bits = draw.choice([8, 8, 12, 16])
        count = draw.choice([256, 1000, 4096, 65536])
        first = low + draw.choice([0, span // 4])
        entries = np.rint(np.linspace(0, 1, count) ** 0.7 * (2**bits - 1))
        entries = entries[::-1] if draw.random() < 0.3 else entries
        packed = bits == 8 and draw.random() < 0.5
        vr = "SS" if low < 0 else "US"
        if not -32768 <= first < (32768 if vr == "SS" else 65536):
            return
        item = lut(count, first, bits, entries, packed=packed, first_vr=vr, order=order)
        found.VOILUTSequence = Sequence([item])
    elif kind != "none":
        centre, width = low + span * draw.uniform(0.2, 0.8), max(2, span * draw.uniform(0.1, 1.5))
        centres, widths = [round(centre, 2)], [round(width, 2)]
        if kind == "several":
            centres, widths = [*centres, 0, 40], [*widths, 10, 80]
        found.WindowCenter, found.WindowWidth = centres, widths
        if kind == "sigmoid":
            found.VOILUTFunction = "SIGMOID"


def _colour(draw: random.Random, syntax: UID) -> FileDataset:
    kind = draw.choice(["RGB", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR"])
    found = dataset(kind, syntax)
    allocated, stored = (16, draw.choice([12, 16])) if draw.random() < 0.4 else (8, 8)
    if kind in ("YBR_FULL_422", "PALETTE COLOR"):
        allocated, stored = 8, 8
    top = 2**stored - 1
    planes = [picture(top=top), picture(top=top)[::-1], top - picture(top=top)[:, ::-1]]
    if kind == "PALETTE COLOR":
        set_pixels(found, planes[0], allocated=8, stored=8)
        bits = draw.choice([8, 16])
        for name, power in (("Red", 1), ("Green", 2), ("Blue", 0.5)):
            entries = np.rint(np.linspace(0, 1, 256) ** power * (2**bits - 1))
            order = ">" if syntax == ExplicitVRBigEndian else "<"
            item = lut(256, 0, bits, entries, packed=bits == 8, order=order)
            for part in ("Descriptor", "Data"):
                element = item[f"LUT{part}"]
                keyword = f"{name}PaletteColorLookupTable{part}"
                found.add_new(keyword, element.VR, element.value)
        return found
    pixels = np.stack(planes, axis=-1)
    found.SamplesPerPixel, found.PlanarConfiguration = 3, 0
    set_pixels(found, pixels, allocated=allocated, stored=stored)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    if kind == "YBR_FULL_422":
        luma, chroma = pixels[..., 0], pixels[:, ::2, 1:]
        quads = np.stack([luma[:, ::2], luma[:, 1::2], chroma[..., 0], chroma[..., 1]], axis=-1)
        found.PixelData = quads.astype("u1").tobytes()
    elif draw.random() < 0.4:
        found.PlanarConfiguration = 1
        planar = np.stack(planes).astype(f"{order}u{allocated // 8}")
        found.PixelData = planar.tobytes()
    return found


def write(found: FileDataset, path: Path, *, rle: bool = False) -> Path:
    """Write a file, run-length encoded if asked."""
    if rle:
        found.compress(RLELossless)
    found.save_as(path, enforce_file_format=True)
    return path
