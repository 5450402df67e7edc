"""Values of a DICOM header that are kept: numbers, words of the standard, tables; or nothing."""

import re

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.uid import UID

from primia_flwr.data.deidentification import kept
from primia_flwr.data.deidentification.identity import element, tag_of
from primia_flwr.data.files.decoding.header import Header
from primia_flwr.errors import DataError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TABLE_VRS = {"US", "SS", "OW", "OB", "US or OW", "OB or OW"}


def kept_value(header: Header, name: str, *, signed: bool) -> DataElement | None:
    """Return what is kept of an element that is no sequence.

    `signed`: how to read a number that may be either where the file does not say.
    """
    if name in kept.TABLES:
        return _table(header, name)
    if name in kept.WORDS:
        return _words(header, name)
    if name in kept.CLASSES:
        uid = UID(header.text(name))
        return element(name, uid) if uid.is_valid and uid.name != uid else None
    return _number(header, name, signed=signed) if name in kept.NUMBERS else None


def _number(header: Header, name: str, *, signed: bool) -> DataElement | None:
    vr = dictionary_VR(tag_of(name))
    if vr == "US or SS":
        vr = "SS" if signed else "US"
    if vr in ("DS", "IS"):
        parts = [part.strip() for part in header.text(name).split("\\")]
        return element(name, parts) if all(map(_NUMBER.fullmatch, parts)) else None
    try:
        numbers = header.numbers(name, signed=signed)
    except DataError:
        return None
    if not numbers:
        return None
    if vr not in ("US", "SS"):
        return element(name, list(numbers), vr)
    words = np.array([int(number) % (1 << 16) for number in numbers], np.uint16)
    return element(name, (words.view(np.int16) if vr == "SS" else words).tolist(), vr)


def _words(header: Header, name: str) -> DataElement | None:
    """Return those of an element's words that the standard knows."""
    words = [part.strip().upper() for part in header.text(name).split("\\")]
    known = [word for word in words if word in kept.WORDS[name]]
    return element(name, known, "CS") if known else None


def _table(header: Header, name: str) -> DataElement | None:
    content, vr, little = header.content(name)
    if vr not in _TABLE_VRS or not content:
        return None
    content += b"\0" * (len(content) % 2)
    if not little and vr != "OB":
        content = np.array(memoryview(content).cast("H"), np.uint16).byteswap().tobytes()
    return element(name, content, "OW")
