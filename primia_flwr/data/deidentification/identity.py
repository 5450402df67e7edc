"""Who and when of a DICOM copy: a pseudonym, new UIDs, shifted dates, and that this was done.

dicognito replaces UIDs and shifts dates, here with keyed digests.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dicognito.datetimeanonymizer import DateTimeAnonymizer
from dicognito.randomizer import Randomizer
from dicognito.uianonymizer import UIAnonymizer
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from primia_flwr.data.deidentification import kept
from primia_flwr.data.files.decoding.header import Header
from primia_flwr.data.pseudonyms import Pseudonyms

_METHOD = "primia_flwr by PS3.15 E.1, a list of what is kept; dicognito"
_OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
_UID = re.compile(r"[0-2](\.(0|[1-9]\d*))+")
_DATE, _TIME = re.compile(r"(19|20)\d{6}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_HOURS = (62 * 24, 730 * 24)


@dataclass
class Record:
    """Tags of what was removed of one file, and of what was replaced."""

    removed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Identity:
    """A patient's pseudonym, empty where nobody knows whose image it is, and the site's key."""

    patient: str
    pseudonyms: Pseudonyms

    def give(self, found: Dataset, header: Header, record: Record) -> None:
        """Give a copy its patient, UIDs and dates, and say that it was de-identified."""
        for name in kept.EMPTY:
            found.add(element(name, ""))
            record.removed += [shown(name)] * bool(header.text(name))
        for name in ("PatientID", "PatientName"):
            found.add(element(name, self.patient))
            record.replaced += [shown(name)] * (name in header)
        self._replace_uids(found, header, record)
        for name in kept.DATES:
            self._shift_date(found, header, name, record)
        found.SpecificCharacterSet = "ISO_IR 192"
        found.PatientIdentityRemoved = "YES"
        found.DeidentificationMethod = _METHOD
        found.DeidentificationMethodCodeSequence = [_code(*option) for option in _OPTIONS]
        found.LongitudinalTemporalInformationModified = "MODIFIED"

    def _replace_uids(self, found: Dataset, header: Header, record: Record) -> None:
        replace = UIAnonymizer(_Keyed(self.pseudonyms, "uid"))
        for name in kept.UIDS:
            uid = header.text(name)
            if _UID.fullmatch(uid):
                record.replaced.append(shown(name))
            else:
                record.removed += [shown(name)] * bool(uid)
                uid = str(header.path) if name == "SOPInstanceUID" else ""  # it must have one
            if uid:
                new = element(name, uid)
                replace(found, new)
                found.add(new)

    def _shift_date(self, found: Dataset, header: Header, name: str, record: Record) -> None:
        """Shift a date and its time by the patient's own hours; what is none, or nobody's, goes."""
        shifted = Dataset()
        for part, value in self._usable(header, name):
            shifted.add(element(part, value))
        try:
            if name in shifted:
                self._dates(shifted, shifted[name])
        except (ValueError, OverflowError):
            shifted = Dataset()
        found.update(shifted)
        for part in (name, kept.time_of(name)):
            if part in header:
                (record.replaced if part in shifted else record.removed).append(shown(part))

    def _usable(self, header: Header, name: str) -> Iterator[tuple[str, str]]:
        date, time = header.text(name), header.text(kept.time_of(name))
        if self.patient and _DATE.fullmatch(date):
            yield name, date
            if _TIME.fullmatch(time):
                yield kept.time_of(name), time

    @property
    def _dates(self) -> DateTimeAnonymizer:
        return DateTimeAnonymizer(-hours_back(self.pseudonyms, self.patient))


def hours_back(pseudonyms: Pseudonyms, patient: str) -> int:
    """Return by how many hours a patient's dates and times go back; no whole days.

    Else the time of day would stay what it was.
    """
    low, high = _HOURS
    days, hours = divmod(
        _Keyed(pseudonyms, "hours").to_int(patient) % ((high - low) // 24 * 23), 23
    )
    return low + 24 * days + 1 + hours


class _Keyed(Randomizer):
    """dicognito's source of numbers, by HMAC-SHA256 instead of MD5."""

    def __init__(self, pseudonyms: Pseudonyms, kind: str) -> None:
        self._pseudonyms, self._kind = pseudonyms, kind

    def to_int(self, original_value: str) -> int:
        """Return 128 bits of a keyed digest."""
        return int(self._pseudonyms.digest(self._kind, original_value).hex()[:32], 16)


def element(name: str, value: object, vr: str = "") -> DataElement:
    """Return an element by its keyword, its value as it is."""
    tag = tag_of(name)
    return DataElement(tag, vr or dictionary_VR(tag), value, validation_mode=config.IGNORE)


def tag_of(name: str) -> int:
    """Return the tag of a keyword."""
    return int(tag_for_keyword(name) or 0)


def shown(name: str, tag: int = 0) -> str:
    """Return a tag as the record has it; `name` is empty for one that no dictionary knows."""
    tag = tag or tag_of(name)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {name or 'private or unknown'}"


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
