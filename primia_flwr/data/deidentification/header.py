"""A DICOM file written anew: what `kept` lists, and a pseudonym, new UIDs and shifted dates.

dicognito replaces UIDs and shifts dates, here with keyed digests. File meta information, preamble,
private elements, overlays, curves, icons and whatever follows the pixels are not carried over.
Source: PS3.15, annex E.
"""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicognito.datetimeanonymizer import DateTimeAnonymizer
from dicognito.randomizer import Randomizer
from dicognito.uianonymizer import UIAnonymizer
from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from primia_flwr.data.deidentification import kept
from primia_flwr.data.deidentification.stored_pixels import PixelElement, bare_pixels
from primia_flwr.data.files.decoding.header import Header
from primia_flwr.data.files.decoding.stream import open_dicom
from primia_flwr.data.pseudonyms import Pseudonyms
from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reading

_METHOD = "primia_flwr: PS3.15 basic profile by a list of what is kept; dicognito"
_OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_UID = re.compile(r"[0-2](\.(0|[1-9]\d*))+")
_HOURS = (62 * 24, 730 * 24)
_RISKY = {"US", "IVUS", "SC", "XC", "ES", "OT", "GM", "OP", "DG", "BI", "TG"}


@dataclass(frozen=True)
class BareFile:
    """A file without metadata: its bytes, what was removed and replaced, and what to look at."""

    content: bytes
    suffix: str
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    burned_in: str = ""


class _Keyed(Randomizer):
    """dicognito's source of numbers, by HMAC-SHA256 instead of MD5."""

    def __init__(self, pseudonyms: Pseudonyms, kind: str) -> None:
        self._pseudonyms, self._kind = pseudonyms, kind

    def to_int(self, original_value: str) -> int:
        """Return 128 bits of a keyed digest."""
        return int(self._pseudonyms.digest(self._kind, original_value).hex()[:32], 16)


@dataclass
class _Copy:
    """What has been carried over of one file, and what not."""

    signed: bool
    removed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    def of(self, header: Header, dataset: Any, *, within: str = "") -> Dataset:
        """Return what is kept of one level of elements."""
        found = Dataset()
        for tag in sorted(dataset.keys()):
            name = keyword_for_tag(tag)
            element = None if tag.is_private or not name else self._element(header, name, within)
            if element is not None:
                found.add(element)
            elif name not in _HANDLED or within:
                self.removed.append(f"{within}{_shown(tag, name)}")
        return found

    def _element(self, header: Header, name: str, within: str) -> DataElement | None:
        if name in kept.SEQUENCES:
            item = header.first_item(name)
            if item is None:
                return None
            inner = self.of(item, item._dataset, within=f"{within}{name}/")
            return DataElement(_tag(name), "SQ", [inner]) if len(inner) else None
        if name in kept.TABLES:
            return _table(header, name)
        if name in kept.WORDS:
            return _words(header, name)
        if name in kept.CLASSES and (uid := UID(header.text(name))).is_valid and uid.name != uid:
            return DataElement(_tag(name), "UI", uid)
        return _number(header, name, signed=self.signed) if name in kept.NUMBERS else None


_HANDLED = {*kept.UIDS, *kept.EMPTY, "PatientID", "PatientName", "SpecificCharacterSet",
            *kept.DATES, *(name.replace("Date", "Time") for name in kept.DATES)}  # fmt: skip


def bare_dicom(path: Path, patient: str, pseudonyms: Pseudonyms) -> BareFile:
    """Return a DICOM file's image without whatever may name a person.

    Parameters
    ----------
    path : Path
        The file; it is only read.
    patient : str
        The patient's pseudonym; empty if nobody knows whose image it is.
    pseudonyms : Pseudonyms
        For its UIDs and dates.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    expected = "an intact DICOM image: export it again"
    with reading(path, error=DataError, expected=expected), open_dicom(path) as file:
        copy = _Copy(signed=file.header.integer("PixelRepresentation", 0) == 1)
        found = copy.of(file.header, file.header._dataset)
        burned_in = _burned_in(found)
        _identify(found, file.header, patient, pseudonyms, copy)
        _add_pixels(found, bare_pixels(file, path), copy)
        content = _written(found)
    return BareFile(content, ".dcm", tuple(copy.removed), tuple(copy.replaced), burned_in)


def _identify(
    found: Dataset, header: Header, patient: str, pseudonyms: Pseudonyms, copy: _Copy
) -> None:
    """Give the copy its patient, UIDs and dates, and say that it was de-identified."""
    for name in kept.EMPTY:
        found.add(DataElement(_tag(name), dictionary_VR(_tag(name)), ""))
        copy.removed += [_shown(_tag(name), name)] * bool(header.text(name))
    for name in ("PatientID", "PatientName"):
        found.add(DataElement(_tag(name), dictionary_VR(_tag(name)), patient))
        copy.replaced += [_shown(_tag(name), name)] * (name in header)
    replace_uid = UIAnonymizer(_Keyed(pseudonyms, "uid"))
    for name in kept.UIDS:
        uid = header.text(name)
        if name == "SOPInstanceUID" and not _UID.fullmatch(uid):
            uid = str(header.path)  # it must have one
        if not uid:
            continue
        if not _UID.fullmatch(uid) and name != "SOPInstanceUID":
            copy.removed.append(_shown(_tag(name), name))
            continue
        element = DataElement(_tag(name), "UI", uid, validation_mode=config.IGNORE)
        replace_uid(found, element)
        found.add(element)
        copy.replaced.append(_shown(_tag(name), name))
    _shift_dates(found, header, patient, pseudonyms, copy)
    found.SpecificCharacterSet = "ISO_IR 192"
    found.PatientIdentityRemoved = "YES"
    found.DeidentificationMethod = _METHOD[:64]
    found.DeidentificationMethodCodeSequence = [_code(*option) for option in _OPTIONS]
    found.LongitudinalTemporalInformationModified = "MODIFIED"


def _shift_dates(
    found: Dataset, header: Header, patient: str, pseudonyms: Pseudonyms, copy: _Copy
) -> None:
    """Shift dates by the patient's own number of hours; what is no date, or of nobody, goes."""
    low, high = _HOURS
    drawn = _Keyed(pseudonyms, "hours").to_int(patient)
    shift = DateTimeAnonymizer(-(low + drawn % (high - low)))
    for name in kept.DATES:
        time_name = name.replace("Date", "Time")
        date, time = header.text(name), header.text(time_name)
        there = [_shown(_tag(n), n) for n in (name, time_name) if n in header]
        shifted = Dataset()
        if patient and re.fullmatch(r"(19|20)\d{6}", date):
            shifted.add(DataElement(_tag(name), "DA", date, validation_mode=config.IGNORE))
            if re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", time):
                shifted.add(DataElement(_tag(time_name), "TM", time))
        try:
            if name in shifted:
                shift(shifted, shifted[name])
            found.update(shifted)
        except (ValueError, OverflowError):
            shifted = Dataset()
        copy.replaced += there[: len(shifted)]
        copy.removed += there[len(shifted) :]


def _add_pixels(found: Dataset, pixels: PixelElement, copy: _Copy) -> None:
    for name, value in pixels.changed.items():
        found.add(DataElement(_tag(name), dictionary_VR(_tag(name)), value))
    found.add(DataElement(_tag(pixels.keyword), pixels.vr, pixels.content))
    found[pixels.keyword].is_undefined_length = pixels.is_encapsulated
    copy.removed += pixels.removed
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = UID(pixels.syntax)


def _written(found: Dataset) -> bytes:
    out = io.BytesIO()
    if "SOPClassUID" not in found:
        found.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture
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
    if "SCREEN SAVE" in list(found.get("ImageType", None) or []):
        return "it is a saved screen"
    return ""


def _number(header: Header, name: str, *, signed: bool) -> DataElement | None:
    """Return an element of numbers; nothing where a value is none."""
    vr = dictionary_VR(_tag(name))
    if vr == "US or SS":
        vr = "SS" if signed else "US"
    try:
        if vr in ("DS", "IS"):
            parts = [part.strip() for part in header.text(name).split("\\")]
            if not all(map(_NUMBER.fullmatch, parts)):
                return None
            return DataElement(_tag(name), vr, parts, validation_mode=config.IGNORE)
        numbers = header.numbers(name, signed=signed)
        if vr in ("US", "SS"):
            bits = (1 << 16) if vr == "US" else (1 << 15)
            values: list[Any] = [_wrapped(int(one), vr, bits) for one in numbers]
        else:
            values = list(numbers)
        return DataElement(_tag(name), vr, values) if values else None
    except (DataError, ValueError, OverflowError):
        return None


def _wrapped(number: int, vr: str, bits: int) -> int:
    """Return the 16-bit number of a VR that has the same bytes."""
    return number % (1 << 16) if vr == "US" else (number + bits) % (1 << 16) - bits


def _words(header: Header, name: str) -> DataElement | None:
    """Return those of an element's words that the standard knows."""
    words = [part.strip().upper() for part in header.text(name).split("\\")]
    known = [word for word in words if word in kept.WORDS[name]]
    return DataElement(_tag(name), "CS", known) if known else None


def _table(header: Header, name: str) -> DataElement | None:
    content, vr, little = header.content(name)
    if vr not in ("US", "SS", "OW", "OB", "US or OW", "OB or OW") or not content:
        return None
    if not little and vr != "OB":
        content = content[: len(content) // 2 * 2]
        content = bytes(b for at in range(0, len(content), 2) for b in content[at : at + 2][::-1])
    return DataElement(_tag(name), "OW", content + b"\0" * (len(content) % 2))


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _tag(name: str) -> int:
    return int(tag_for_keyword(name) or 0)


def _shown(tag: int, name: str) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {name or 'private or unknown'}"
