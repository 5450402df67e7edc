"""Elements of a DICOM header, the one place that reads them: as what they should be, or refused.

A value is taken from its bytes, so that no text, no VR and no number of values can raise anything
but a `DataError`.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from primia_flwr.errors import DataError
from primia_flwr.storage.reading import reason_of

_BINARY = {
    "US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "UV": "u8", "SV": "i8", "FL": "f4", "FD": "f8",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MAX_TEXT = 1 << 16


class Header:
    """A data set's elements by keyword; `path` is named where one is refused."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self.path = path
        self.dataset = dataset

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.dataset

    def refuse(self, keyword: str, is_: object, expected: str) -> DataError:
        """Return the error that one element cannot be used."""
        shown = reason_of(ValueError(f"{keyword} is {is_!r:.60}"))
        return DataError(f"{self.path}: {shown}; expected {expected}: export it again")

    def text(self, keyword: str) -> str:
        """Return an element as text, without padding; empty if it is missing."""
        content = self.content(keyword)[0][:_MAX_TEXT]
        return content.decode("ascii", "replace").strip(" \0\r\n\t")

    def name(self, keyword: str) -> str:
        """Return an element as text in the file's own character set, without padding.

        Raises
        ------
        Exception
            Whatever pydicom raises of a text or a VR that is none.
        """
        value = self.dataset.get(keyword)
        return "" if value is None else str(value).strip(" \0\r\n\t")

    def numbers(self, keyword: str, *, signed: bool = False) -> tuple[float, ...]:
        """Return an element's finite numbers; none if it is missing or empty.

        `signed`: how to read one that may be either (US or SS) where the file does not say.
        """
        content, vr, little = self.content(keyword)
        if vr in ("OB", "OW"):  # of numbers, the bytes of two each
            vr = "US or SS"
        if vr == "US or SS":
            vr = "SS" if signed else "US"
        if kind := _BINARY.get(vr):
            if len(content) % int(kind[1]) or len(content) > _MAX_TEXT:
                raise self.refuse(keyword, f"{len(content)} bytes", f"numbers of the kind {vr}")
            found = np.frombuffer(content, f"{'<' if little else '>'}{kind}").tolist()
        else:
            parts = [part.strip() for part in self.text(keyword).split("\\")]
            if parts == [""]:
                return ()
            if not all(map(_NUMBER.fullmatch, parts)):
                raise self.refuse(keyword, self.text(keyword), "a number")
            found = [float(part) for part in parts]
        if not all(np.isfinite(number) and abs(number) < 1e30 for number in found):
            raise self.refuse(keyword, found[0], "a finite number")
        return tuple(found)

    def number(self, keyword: str, default: float) -> float:
        """Return an element's only number."""
        found = self.numbers(keyword)
        if len(found) > 1:
            raise self.refuse(keyword, "\\".join(map(str, found)), "one number")
        return found[0] if found else default

    def integer(self, keyword: str, default: int) -> int:
        """Return an element's only number, which must be whole."""
        found = self.number(keyword, default)
        if found != int(found):
            raise self.refuse(keyword, found, "a whole number")
        return int(found)

    def first_item(self, keyword: str) -> "Header | None":
        """Return the first item of a sequence; nothing if it is missing or empty."""
        if keyword not in self:
            return None
        try:
            items = self.dataset[keyword].value
            return Header(self.path, items[0]) if len(items) else None
        except Exception as error:  # pydicom parses it now, and may raise almost anything
            raise self.refuse(keyword, reason_of(error), "a sequence") from None

    def content(self, keyword: str) -> tuple[bytes, str, bool]:
        """Return an element's bytes, its VR, and whether they are little endian.

        A missing one has none. The VR is the dictionary's where the file has none that is known.
        """
        from pydicom.datadict import dictionary_VR, tag_for_keyword

        tag = tag_for_keyword(keyword)
        if tag is None or tag not in self.dataset:
            return b"", "", True
        element: Any = self.dataset.get_item(tag)
        value = element.value if getattr(element, "is_raw", False) else None
        if value is None or isinstance(value, str):  # what pydicom gives for no value
            value = b""
        if not isinstance(value, bytes):
            raise self.refuse(keyword, "a sequence", "a value")
        vr = str(element.VR or "")
        if not re.fullmatch("[A-Z]{2}", vr) or vr == "UN":
            vr = dictionary_VR(tag)
        return value, vr, bool(getattr(element, "is_little_endian", True))
