"""A DICOM file from its first byte to its pixels, whatever of its beginning is missing.

The preamble, the file meta information and the transfer syntax may be absent: then the first
elements tell the encoding. A deflated file is inflated as far as it is read and no further.
Source: PS3.5, sections 7 and A; PS3.10, section 7.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.data.files.decoding.header import Header
from primia_flwr.data.files.decoding.sources import Bounded, Inflating
from primia_flwr.data.files.regular import open_regular

_IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IMPLICIT_BIG_PIXELS = "1.2.840.113619.5.2"
"""A private syntax of GE: implicit, with pixels in big-endian words."""
NATIVE = {_IMPLICIT, EXPLICIT, _DEFLATED, _BIG_ENDIAN, _IMPLICIT_BIG_PIXELS}

_FLOATS, _DOUBLES, _INTEGERS = 0x7FE00008, 0x7FE00009, 0x7FE00010
_KEYWORDS = {
    _FLOATS: "FloatPixelData", _DOUBLES: "DoubleFloatPixelData", _INTEGERS: "PixelData",
}  # fmt: skip
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip
_UNDEFINED = 0xFFFFFFFF
_LONGEST_FIRST = 1 << 16


@dataclass
class DicomStream:
    """An open DICOM file, read up to its pixels.

    `keyword` is PixelData, FloatPixelData or DoubleFloatPixelData, or empty where there are none;
    `length` its bytes, None for encapsulated ones; `vr` empty where it is implicit; `little` the
    byte order of the pixels; `size` the bytes of the file.
    """

    header: Header
    syntax: str
    little: bool
    keyword: str
    vr: str
    length: int | None
    size: int
    _source: Any

    def pixels(self, at_most: int | None = None) -> bytes:
        """Read the bytes of the pixels, or as many of them; once."""
        wanted = self.length or -1 if at_most is None else at_most
        if isinstance(self._source, Inflating):
            self._source.allowed = self._source.tell() + max(wanted, 0)
        else:
            self._source.largest = self.size
        content = bytes(self._source.read(wanted))
        if isinstance(self._source, Inflating):
            self._source.check_rest()
        return content


@contextmanager
def open_dicom(path: Path) -> Iterator[DicomStream]:
    """Open a file and read its header.

    Raises
    ------
    Exception
        Whatever a parser may raise; of this module ValueError.
    """
    with open_regular(path) as file:
        yield _read(path, Bounded(file))


def encoding_of(head: bytes) -> tuple[bool, bool] | None:
    """Tell how elements are encoded from the first bytes of the first: (implicit, little endian).

    None if they are not the beginning of a data set.
    """
    for little in (True, False):
        for implicit in (False, True):
            if _are_elements(head, implicit=implicit, little=little):
                return implicit, little
    return None


def start_of(head: bytes) -> int:
    """Return where elements begin: after a preamble, or at once."""
    if head[128:132] == b"DICM":
        return 132
    return 4 if head[:4] == b"DICM" else 0


def _are_elements(head: bytes, *, implicit: bool, little: bool) -> bool:
    order, at, last, seen = "<" if little else ">", 0, (0, -1), 0
    while at + 12 <= len(head):
        group, number = struct.unpack_from(order + "HH", head, at)
        if (group, number) <= last or (not seen and group not in (0x0002, 0x0008)):
            return False
        last, vr = (group, number), head[at + 4 : at + 6]
        if implicit:
            length, size = struct.unpack_from(order + "L", head, at + 4)[0], 8
        elif vr in _LONG and head[at + 6 : at + 8] == b"\0\0":
            length, size = struct.unpack_from(order + "L", head, at + 8)[0], 12
        elif vr in _SHORT:
            length, size = struct.unpack_from(order + "H", head, at + 6)[0], 8
        else:
            return False
        if (length % 2 or length > _LONGEST_FIRST) and length != _UNDEFINED:
            return False
        seen, at = seen + 1, at + size + (len(head) if length == _UNDEFINED else length)
    return seen > 0


def _read(path: Path, file: Bounded) -> DicomStream:
    from pydicom.filereader import read_dataset

    file.seek(start_of(file.read(132)))
    claimed = _transfer_syntax(path, file)
    source: Any = Inflating(file) if claimed == _DEFLATED else file
    at = source.tell()
    head = source.read(132)
    source.seek(at)
    implicit, little = _encoding(head, claimed)
    dataset = read_dataset(source, implicit, little, stop_when=_are_pixels)
    syntax = claimed or _syntax_of(implicit, little)
    keyword, vr, length = _pixel_element(source, little)
    pixels_little = little and syntax != _IMPLICIT_BIG_PIXELS
    return DicomStream(
        Header(path, dataset), syntax, pixels_little, keyword, vr, length, file.size, source
    )


def _transfer_syntax(path: Path, file: Bounded) -> str:
    """Read the file meta information, if there is any, and return its transfer syntax."""
    from pydicom.filereader import read_dataset

    source: Any = file
    at = file.tell()
    head = file.read(132)
    file.seek(at)
    if head[:2] != b"\x02\0":
        return ""
    implicit = (encoding_of(head) or (False, True))[0]
    meta = read_dataset(source, implicit, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    return Header(path, meta).text("TransferSyntaxUID")


def _encoding(head: bytes, syntax: str) -> tuple[bool, bool]:
    """Return (implicit, little): what the syntax says, unless the first elements contradict it."""
    implicit = syntax in (_IMPLICIT, _IMPLICIT_BIG_PIXELS)
    little = syntax != _BIG_ENDIAN
    if syntax and _are_elements(head, implicit=implicit, little=little):
        return implicit, little
    seen = encoding_of(head)
    if not syntax and not seen:
        raise ValueError("it does not begin as a DICOM file does")
    return seen or (implicit, little)


def _syntax_of(implicit: bool, little: bool) -> str:
    if implicit:
        return _IMPLICIT
    return EXPLICIT if little else _BIG_ENDIAN


def _are_pixels(tag: int, vr: object, length: object) -> bool:
    return tag in _KEYWORDS


def _pixel_element(source: Any, little: bool) -> tuple[str, str, int | None]:
    """Read tag, VR and length of the pixels, before whose first byte the source then stands."""
    order = "<" if little else ">"
    start = source.read(8)
    if len(start) < 8:
        return "", "", 0
    group, number = struct.unpack(order + "HH", start[:4])
    keyword, vr = _KEYWORDS.get(group << 16 | number, ""), start[4:6]
    if vr in _LONG:  # no even length looks like one of these
        start = source.read(4)
    else:
        vr = b""
    (length,) = struct.unpack(order + "L", start[-4:])
    return keyword, vr.decode("ascii"), None if length == _UNDEFINED else length
