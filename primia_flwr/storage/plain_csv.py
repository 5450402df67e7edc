r"""CSV of which no cell is a formula: the only door through which tables are written and read.

A spreadsheet computes a text that begins with `=`, `+`, `-` or `@`, and a file name may be one.
So a text cell gets an apostrophe before it where a formula could begin: at its start, and after a
semicolon, a tab or the end of a line in it, since where a spreadsheet takes those for the ends of
cells quotes do not hold a cell together. White space, hidden characters and apostrophes before
the sign are looked through, and the signs' full-width forms count; a text that begins with a tab or
the end of a line gets one in any case. Numbers stay numbers.

`reader` and `DictReader` take such apostrophes away again, and no others: what is written is read
back as it was, and a table from elsewhere as it is, unless a cell of it is an apostrophe before
a formula.

Source: OWASP, CSV injection.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any, TextIO

_LOOKED_THROUGH = (
    "'\\s\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
)
_FORMULA = f"[{_LOOKED_THROUGH}]*[=+\\-@\uff1d\uff0b\uff0d\uff20\u2212\ufe63\ufe62\ufe66\ufe6b]"
_PLACE = "(?:\\A|(?<=[;\t\r\n]))"
_BEFORE = re.compile(rf"{_PLACE}(?={_FORMULA})|\A(?='*[\t\r\n])")
_AFTER = re.compile(rf"{_PLACE}'(?={_FORMULA})|\A'(?='*[\t\r\n])")
_QUOTED = re.compile(r'[",;\t\r\n]|\A\s|\s\Z')


def guarded(text: str) -> str:
    """Return a text in which a spreadsheet finds no formula."""
    return _BEFORE.sub("'", text)


def unguarded(text: str) -> str:
    """Undo `guarded`."""
    return _AFTER.sub("", text)


class writer:  # noqa: N801 - named as in csv
    """Writes rows: None as nothing, numbers with all digits, everything else as a guarded text.

    Parameters
    ----------
    stream : file
        Opened with newline="".
    lineterminator : str
        What ends a row.
    """

    def __init__(self, stream: TextIO, *, lineterminator: str = "\r\n") -> None:
        self._stream, self._end = stream, lineterminator

    def writerow(self, row: Iterable[object]) -> None:
        """Write one row."""
        cells = [_cell(value) for value in row]
        self._stream.write((",".join(cells) if cells != [""] else '""') + self._end)

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


class DictWriter:
    """Writes mappings: of each the values of `fieldnames`, whatever else it has.

    Parameters
    ----------
    stream : file
        As of `writer`.
    fieldnames : sequence of str
        The columns.
    """

    def __init__(self, stream: TextIO, fieldnames: Sequence[str]) -> None:
        self._writer, self._names = writer(stream), list(fieldnames)

    def writeheader(self) -> None:
        """Write the names of the columns."""
        self._writer.writerow(self._names)

    def writerows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a row for each mapping."""
        self._writer.writerows([row.get(name) for name in self._names] for row in rows)


class reader:  # noqa: N801 - named as in csv
    """Reads rows as lists of texts, unguarded; as `csv.reader`.

    Parameters
    ----------
    lines : iterable of str
        A file opened with newline="", or such.
    strict : bool
        Refuse quotes that are not closed, or stand in the midst of a cell.
    delimiter : str
        What stands between two cells.

    Raises
    ------
    csv.Error
        While reading, if it is no CSV.
    """

    def __init__(self, lines: Iterable[str], *, strict: bool = False, delimiter: str = ",") -> None:
        self._reader = csv.reader(lines, strict=strict, delimiter=delimiter)

    @property
    def line_num(self) -> int:
        """How many lines have been read."""
        return self._reader.line_num

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        first = self._reader.line_num + 1
        try:
            return [unguarded(cell) for cell in next(self._reader)]
        except csv.Error:
            raise csv.Error(
                f"line {first} has a quote that is not closed, or in the midst of a cell, or a "
                f"cell of more than {csv.field_size_limit():,} characters"
            ) from None


class DictReader:
    """Reads rows as mappings from the names of the first line, unguarded; as `csv.DictReader`.

    Parameters
    ----------
    lines : iterable of str
        As of `reader`.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._rows = csv.DictReader(lines)
        self._rows.reader = reader(lines)  # type: ignore[assignment]

    @property
    def fieldnames(self) -> Sequence[str] | None:
        """The names of the first line; None where there is none."""
        return self._rows.fieldnames

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        return next(self._rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Number):
        return repr(float(value)) if isinstance(value, float) else str(value)
    text = guarded(str(value))
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
