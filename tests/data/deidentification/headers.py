"""DICOM files in which every attribute of the basic profile names somebody."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom import config
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

SECRET = "GEHEIM"
SECRET_UID = "1.2.3.777.777.777.1"
SECRET_DATES = ("19610413", "070809.551827", "19610413070809")
CURVES, OVERLAYS = 0x5000, 0x6000

TEXT = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
VALUES: dict[str, Any] = {
    "AS": "061Y", "AT": 0x00100010, "DA": SECRET_DATES[0], "DS": "61.413", "DT": SECRET_DATES[2],
    "FD": 61.413, "FL": 61.413, "IS": "61413", "OB": b"GEHEIM", "OB or OW": b"GEHEIM",
    "OW": b"GEHEIM", "OF": b"GEHEIMGEHEIM", "SL": 61413, "SS": 6141, "TM": SECRET_DATES[1],
    "UI": SECRET_UID, "UL": 61413, "UN": b"GEHEIM", "US": 6141, "US or SS": 6141, "OD": b"GEHEIM01",
}  # fmt: skip


def profile() -> dict[int, str]:
    """Return the action of each attribute of table E.1-1, by tag; of groups their first."""
    actions = {}
    for name, tags in vars(table).items():
        if name.endswith("_TAGS") and name != "ALL_TAGS":
            actions |= {Tag(*tag[:2]): name.removesuffix("_TAGS") for tag in tags}
    return actions


def filled(tag: int, depth: int = 1) -> DataElement | None:
    """Return an attribute with a value that tells of somebody; a sequence holds all of them."""
    group = tag >> 16
    vr = "OW" if group in (CURVES,) else dictionary_VR(tag)
    if vr == "SQ":
        return DataElement(tag, "SQ", [everything(depth - 1)]) if depth else None
    value = SECRET if vr in TEXT else VALUES[vr]
    if vr == "OB or OW" or vr == "US or SS":
        vr = vr[:2]
    if dictionary_has(tag) and dictionary_VM(tag) == "2":
        value = [value, value]
    return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def dictionary_has(tag: int) -> bool:
    return bool(keyword_for_tag(tag))


def everything(depth: int = 1) -> Dataset:
    """Return a data set of all attributes of the profile, nested in its sequences as well."""
    found = Dataset()
    for tag in profile():
        if tag >> 16 in (0, 2, CURVES) or not dictionary_has(tag):
            continue
        if (element := filled(tag, depth)) is not None:
            found.add(element)
    block = found.private_block(0x0099, f"{SECRET} 1.0", create=True)
    block.add_new(0x01, "LO", SECRET)
    if depth:
        block.add_new(0x02, "SQ", [everything(depth - 1)])
    return found


def pixels_of(found: Dataset, values: np.ndarray, *, stored: int, signed: bool = False) -> None:
    """Give a data set an image of one sample a pixel."""
    found.Rows, found.Columns = values.shape
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated = 8 * values.dtype.itemsize
    found.BitsStored, found.HighBit = stored, stored - 1
    found.PixelRepresentation = int(signed)
    found.add(DataElement(0x7FE00010, "OW" if found.BitsAllocated > 8 else "OB", values.tobytes()))


def radiograph(patient: str = "P01", **more: Any) -> Dataset:
    """Return a small radiograph of a patient; `more` by keyword."""
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.1.1"), UID("1.2.3.1")
    found.StudyInstanceUID, found.SeriesInstanceUID = UID("1.2.3.2"), UID("1.2.3.3")
    found.PatientID, found.PatientName, found.Modality = patient, f"{patient}^NAME", "DX"
    found.StudyDate, found.StudyTime, found.BurnedInAnnotation = "20200131", "120000", "NO"
    rows = np.arange(32 * 24, dtype="<u2").reshape(32, 24) * 5
    pixels_of(found, rows, stored=12)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def written(found: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Return a file of a data set."""
    out = io.BytesIO()
    found.file_meta = FileMetaDataset()
    found.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    found.file_meta.MediaStorageSOPInstanceUID = UID(SECRET_UID)
    found.file_meta.TransferSyntaxUID = syntax
    found.file_meta.ImplementationVersionName = SECRET
    found.file_meta.SourceApplicationEntityTitle = SECRET
    found.preamble = (SECRET * 40).encode()[:128]
    found.save_as(out, enforce_file_format=True)
    return out.getvalue()


def write(path: Path, found: Dataset, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a data set as a file, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written(found, syntax))
    return path
