"""A table of images as hospitals keep them: any usual delimiter and encoding, their own headers."""

import gzip
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from primia_flwr.config.checks import COLUMNS
from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.config.rows import TASKS
from primia_flwr.data.names import key_of
from primia_flwr.errors import DataError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_bytes, reading

Row = dict[str, str]

_MAX_BYTES = 1 << 30
_EXPECTED = "a table: save it as CSV in UTF-8"
_TOLD = re.compile('"?sep=([,;|\t])"?', re.IGNORECASE)  # as spreadsheets write it
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # of today, and of old
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Table:
    """Rows by the manifest's columns: path, label, and of patient, site, split what it has."""

    columns: frozenset[str]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def read_rows(path: Path, cfg: DataConfig) -> Table:
    """Read a table in UTF-8 or UTF-16, separated by commas, semicolons, tabs or bars.

    A header is known in any case of letters; `data.columns` and `data.patient_column` say what a
    column is called here. Further columns are ignored, and said.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column or a value, or has no rows.
    """
    with reading(f"data.manifest={path}:", error=DataError, expected=_EXPECTED):
        header, lines, delimiter = _lines(read_bytes(path, at_most=_MAX_BYTES))
    where = _places(path, header, cfg)
    needed = ("path", _label_column(cfg))
    rows = [_row(path, number, line, header, where, needed) for number, line in lines]
    if not rows:
        raise DataError(f"{path}: has no rows; expected one line for each image")
    ignored = [
        printable(name, limit=40)
        for i, name in enumerate(header)
        if name and i not in where.values()
    ]
    return Table(
        frozenset(where),
        tuple(rows),
        (
            *([f"the table is separated by {_DELIMITERS[delimiter]}"] if delimiter != "," else []),
            *([f"columns that are ignored: {', '.join(ignored)}"] if ignored else []),
        ),
    )


def read_columns(
    path: Path, names: Mapping[str, str], *, optional: Mapping[str, str] | None = None
) -> list[tuple[int, Row]]:
    """Return the number of each line, and its cells by the keys of `names` and `optional`.

    Parameters
    ----------
    path : Path
        A table as of `read_rows`; or compressed, where its name ends in `.gz`.
    names, optional : mapping
        What each column is called, in any case of letters; the first of `names` has a value in
        every line. One of `optional` may be missing; its key then is, too.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, has one twice, a line too long or too short,
        or no rows.
    """
    with reading(path, error=DataError, expected=_EXPECTED):
        content = read_bytes(path, at_most=_MAX_BYTES)
        header, lines, _ = _lines(_unpacked(content) if path.suffix.lower() == ".gz" else content)
    wanted = {**names, **(optional or {})}
    places = {key: _hits(header, name) for key, name in wanted.items()}
    missing = [name for key, name in names.items() if not places[key]]
    twice = [wanted[key] for key, hits in places.items() if len(hits) > 1]
    if missing or twice or not lines:
        problem = f"has {twice[0]!r:.80} twice" if twice else "has no rows"
        problem = f"has no column {missing[0]!r:.80}" if missing else problem
        raise DataError(
            f"{path}: {problem}; expected one line for each image below a first line with "
            f"{printable(', '.join(names.values()), limit=300)}, each once; the first line is "
            f"{printable(', '.join(header), limit=200)}"
        )
    found = {key: hits[0] for key, hits in places.items() if hits}
    first = tuple(names)[:1]
    for number, line in lines:
        _check_length(path, number, line, header, {names[key]: found[key] for key in names})
    return [(number, _row(path, number, line, header, found, first)) for number, line in lines]


def _check_length(
    path: Path, number: int, line: Sequence[str], header: Sequence[str], places: Mapping[str, int]
) -> None:
    """Refuse a line that ends before a column: a label that was cut off is not one left empty."""
    missing = [name for name, place in places.items() if place >= len(line)]
    if missing:
        raise DataError(
            f"{path}, line {number}: ends before {missing[0]!r:.80}, with {len(line)} value(s) for "
            f"{len(header)} column(s); expected one value for each, perhaps empty: is the file "
            "whole?"
        )


def _hits(header: Sequence[str], name: str) -> list[int]:
    """Return the places of a column: as it is written, else in any spelling."""
    exact = [i for i, known in enumerate(header) if known == " ".join(name.split())]
    return exact or [i for i, known in enumerate(header) if key_of(known) == key_of(name)]


def _unpacked(content: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        found = file.read(_MAX_BYTES + 1)
    if len(found) > _MAX_BYTES:
        raise ValueError(f"it unpacks to more than {_MAX_BYTES} bytes")
    return found


def _lines(content: bytes) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Return the first line, number and cells of the others, and what separates the cells."""
    if content.startswith(_WORKBOOKS):
        raise ValueError("it is a workbook of a spreadsheet")
    text = _decoded(content)
    first, _, rest = text.partition("\n")
    told = _TOLD.fullmatch(first.strip("\r"))
    delimiter = told[1] if told else _delimiter_of(first)
    stream = io.StringIO(rest if told else text, newline="")
    reader = plain_csv.reader(stream, delimiter=delimiter, strict=True)
    filled = ((reader.line_num + bool(told), line) for line in reader if any(map(str.strip, line)))
    lines = list(filled)
    header = [" ".join(name.split()) for name in (lines[0][1] if lines else [])]
    for number, line in lines:
        if any(_holds_a_row(cell, delimiter, len(header)) for cell in line):
            raise ValueError(f"before line {number} a quote holds several lines together")
    return header, lines[1:], delimiter


def _holds_a_row(cell: str, delimiter: str, columns: int) -> bool:
    """Whether a cell has a line that looks like a row: a quote before it was not closed."""
    later = cell.split("\n")[1:]
    return columns > 1 and any(line.count(delimiter) >= columns - 1 for line in later)


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    for encoding, zeros in (("utf-16-le", content[1:4:2]), ("utf-16-be", content[0:4:2])):
        if zeros == b"\0\0":
            return content.decode(encoding)
    return content.decode("utf-8-sig")


def _delimiter_of(first: str) -> str:
    """Return the delimiter that stands in the first line most often outside of quotes."""
    bare = "".join(first.split('"')[::2])
    return max(_DELIMITERS, key=bare.count)


def _places(path: Path, header: Sequence[str], cfg: DataConfig) -> dict[str, int]:
    """Index of each column that the table has."""
    asked = dict(cfg.columns)
    if cfg.patient_column != DataConfig.patient_column:
        asked.setdefault("patient", cfg.patient_column)
    found: dict[str, int] = {}
    for column in COLUMNS:
        name = asked.get(column, column)
        hits = _hits(header, name)
        if len(hits) > 1:
            raise DataError(
                f"{path}: {len(hits)} columns are called {name!r:.80}; expected one: rename the "
                "others"
            )
        if hits:
            found[column] = hits[0]
        elif column in asked:
            key = "columns" if column in cfg.columns else "patient_column"
            raise DataError(
                f"{path}: first line is {list(header)!r:.200}; expected a column {name!r}, which "
                f"data.{key} names"
            )
    what = _label_column(cfg)
    if {"path", what} <= set(found):
        return found
    raise DataError(
        f"{path}: first line is {list(header)!r:.200}; expected path,{what} and optionally "
        f"patient,site,split; set data.columns={{path: ..., {what}: ...}} if they are called "
        "otherwise"
    )


def _label_column(cfg: DataConfig) -> str:
    """Return the column that holds what is learned of an image."""
    return "mask" if TASKS[cfg.task].masked else "label"


def _row(
    path: Path,
    number: int,
    line: Sequence[str],
    header: Sequence[str],
    where: Mapping[str, int],
    needed: Sequence[str],
) -> Row:
    cells = [cell.strip() for cell in line]
    spare = [cell for cell in cells[len(header) :] if cell]
    row = {name: cells[place] if place < len(cells) else "" for name, place in where.items()}
    for name in needed:
        if spare or not row[name] or "\0" in row[name]:
            raise DataError(
                f"{path}, line {number}: {name} is {row[name]!r:.80} and the line has "
                f"{len(cells)} value(s) for {len(header)} column(s); expected one value for each, "
                "without hidden characters"
            )
    return row
