"""A DICOM file written anew: what `kept` lists, and a pseudonym, new UIDs and shifted dates.

File meta information, preamble, private elements, overlays, curves, icons and whatever follows the
pixels are not carried over. Source: PS3.15, annex E.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from primia_flwr.data.deidentification import kept
from primia_flwr.data.deidentification.identity import Identity, Record, element, shown
from primia_flwr.data.deidentification.stored_pixels import PixelElement, bare_pixels
from primia_flwr.data.deidentification.values import kept_value
from primia_flwr.data.files.decoding.header import Header
from primia_flwr.data.files.decoding.stream import open_dicom
from primia_flwr.data.pseudonyms import Pseudonyms
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reading

_RISKY = {"US", "IVUS", "SC", "XC", "ES", "OT", "GM", "OP", "DG", "BI", "TG"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class BareFile:
    """A file without metadata: its bytes, what was removed and replaced, and what to look at."""

    content: bytes
    suffix: str
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    burned_in: str = ""


def bare_dicom(path: Path, patient: str, pseudonyms: Pseudonyms) -> BareFile:
    """Return a DICOM file's image without whatever may name a person.

    `path`: the file; it is only read. `patient`: the patient's pseudonym; empty if nobody knows
    whose image it is. `pseudonyms`: for its UIDs and dates.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    record, expected = Record(), "an intact DICOM image: export it again"
    with reading(path, error=DataError, expected=expected), open_dicom(path) as file:
        signed = file.header.integer("PixelRepresentation", 0) == 1
        found = _kept(file.header, record, signed=signed)
        burned_in = _burned_in(found)
        Identity(patient, pseudonyms).give(found, file.header, record)
        _add_pixels(found, bare_pixels(file, path), record)
        content = _written(found)
    return BareFile(content, ".dcm", tuple(record.removed), tuple(record.replaced), burned_in)


def _kept(header: Header, record: Record, *, signed: bool, within: str = "") -> Dataset:
    """Return what is kept of one level of elements."""
    found, dataset = Dataset(), header.dataset
    for tag in sorted(dataset.keys()):
        name, one = keyword_for_tag(tag), None
        if name in kept.SEQUENCES:
            item = header.first_item(name)
            below = f"{within}{name}/"
            inner = _kept(item, record, signed=signed, within=below) if item else None
            one = element(name, [inner]) if inner else None
        elif name and not tag.is_private:
            one = kept_value(header, name, signed=signed)
        if one is not None:
            found.add(one)
        elif within or name not in kept.IDENTITY:
            record.removed.append(within + shown(name, tag))
    return found


def _add_pixels(found: Dataset, pixels: PixelElement, record: Record) -> None:
    for name, value in pixels.changed.items():
        found.add(element(name, value))
    found.add(element(pixels.keyword, pixels.content, pixels.vr))
    found[pixels.keyword].is_undefined_length = pixels.is_encapsulated
    record.removed += pixels.removed
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = UID(pixels.syntax)


def _written(found: Dataset) -> bytes:
    out = io.BytesIO()
    if "SOPClassUID" not in found:
        found.SOPClassUID = _SECONDARY_CAPTURE
    found.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _burned_in(found: Dataset) -> str:
    """Return why somebody should look for text in the pixels; nothing where none is likely."""
    said, modality = str(found.get("BurnedInAnnotation", "")), str(found.get("Modality", ""))
    if said == "YES":
        return "its header says that text is burned in"
    if said == "NO":
        return ""
    if modality in _RISKY or "ConversionType" in found or not modality:
        return f"its header does not say whether text is burned in (modality {modality or 'none'})"
    image_type: Any = found.get("ImageType")
    words = [image_type] if isinstance(image_type, str) else list(image_type or [])
    return "it is a saved screen" if "SCREEN SAVE" in words else ""
