"""Lookup tables of DICOM: modality, VOI and palette.

Source: PS3.3 C.11.1.1, C.11.2.1.1 and C.7.6.3.1.5.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from primia_flwr.data.files.decoding.header import Header

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lut:
    """`entries` from input `first` on; values before and after take the first and the last.

    `white` is the highest entry that the descriptor's bits allow.
    """

    first: int
    entries: Floats
    white: float

    def __call__(self, values: Floats) -> Floats:
        """Map input values, of any shape."""
        places = np.rint(np.nan_to_num(values)) - self.first
        found: Floats = self.entries[np.clip(places, 0, len(self.entries) - 1).astype(np.intp)]
        return found


def read_lut(header: Header, inputs: tuple[float, float], *, descriptor: str, data: str) -> Lut:
    """Read a table, whatever VR it is written with, and its entries packed or not.

    Parameters
    ----------
    header : Header
        What holds the two elements.
    inputs : tuple[float, float]
        Smallest and largest input value, which tell a negative first input from a large one.
    descriptor : str
        Keyword of the element with the number of entries, the first input and the bits.
    data : str
        Keyword of the element with the entries.

    Raises
    ------
    DataError
        If the descriptor is none, or there are fewer entries than it says.
    """
    described = [int(number) for number in header.numbers(descriptor, signed=inputs[0] < 0)]
    if len(described) != 3:
        raise header.refuse(descriptor, described, "three numbers")
    count, first, bits = described[0] % 65536 or 65536, described[1], described[2]
    if not 1 <= bits <= 16:
        raise header.refuse(descriptor, f"{bits} bits", "1 to 16 bits")
    if first >= 32768 and inputs[0] < 0:
        first -= 65536
    elif first < 0 and inputs[0] >= 0 and inputs[1] >= first + 65536:
        first += 65536
    if data.startswith("Segmented"):
        entries = _expanded(header, data, count, 1 if bits <= 8 else 2)
    else:
        entries = _entries(header, data, count)
    return Lut(first, entries, max(2.0**bits - 1, _deep_enough(entries)))


def _entries(header: Header, data: str, count: int) -> Floats:
    """Return as many entries: a word each, or a byte each where there are only so many bytes."""
    content, vr, little = header.content(data)
    order = "<" if little else ">"
    if len(content) >= 2 * count:
        words: npt.NDArray[Any] = np.frombuffer(content[: 2 * count], f"{order}u2")
        return words.astype(np.float64)
    if len(content) < count or len(content) > count + 1:
        raise header.refuse(data, f"{len(content)} bytes", f"{count} entries")
    packed = np.frombuffer(content, np.uint8)
    if not little and vr != "OB":  # in words, the first entry in the low byte
        packed = packed[: len(packed) // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    return packed[:count].astype(np.float64)


def _expanded(header: Header, data: str, count: int, size: int) -> Floats:
    """Return a segmented table's entries: PS3.3 C.7.9.2."""
    content, _, little = header.content(data)
    raw = np.frombuffer(content[: len(content) // size * size], f"{'<' if little else '>'}u{size}")
    words, found = [int(word) for word in raw], list[float]()
    segments, at = list[int](), 0
    while at + 2 < len(words) and len(found) < count:
        segments.append(at)
        if words[at] == 2:  # again so many segments from an earlier one on
            parts = words[at + 2 : at + 2 + 4 // size]
            offset = sum(part << 8 * size * place for place, part in enumerate(parts))
            start = segments.index(offset // size)
            for earlier in segments[start : start + words[at + 1]]:
                found += _segment(words, earlier, found)
            at += 2 + 4 // size
        else:
            found += _segment(words, at, found)
            at += 3 if words[at] == 1 else 2 + words[at + 1]
    if len(found) < count:
        raise header.refuse(data, f"{len(found)} entries", f"{count} entries")
    return np.array(found[:count])


def _segment(words: list[int], at: int, before: list[float]) -> list[float]:
    """Return the entries of one segment: these words, or a straight line to this one."""
    kind, length = words[at : at + 2]
    if kind == 0:
        return [float(word) for word in words[at + 2 : at + 2 + length]]
    if kind != 1 or not before:
        raise ValueError("its palette has a segment of no known kind")
    steps = np.arange(1, length + 1) / max(length, 1)
    return [float(x) for x in np.rint(before[-1] + (words[at + 2] - before[-1]) * steps)]


def _deep_enough(entries: Floats) -> float:
    """Return the highest value of the bits that hold all entries."""
    return float(2 ** int(entries.max()).bit_length() - 1)
