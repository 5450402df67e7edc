"""A table that stands on the terminal, on a page and as a CSV file, and is written down once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import JustifyMethod
from rich.table import Table

from primia_flwr.numbers import DASH, figure, interval, p_value
from primia_flwr.statistics.intervals import Interval
from primia_flwr.storage import plain_csv

TEXT, NUMBER, P_VALUE, INTERVAL = "text", "number", "p", "interval"
Cell = str | int | float | Interval | None


@dataclass(frozen=True)
class Sheet:
    """One table: `name` is its file name, columns are (heading, key in the CSV, form)."""

    name: str
    caption: str
    columns: tuple[tuple[str, str, str], ...]
    rows: list[tuple[Cell, ...]]

    @property
    def headings(self) -> list[str]:
        """Return the names of the columns for a person."""
        return [heading for heading, _, _ in self.columns]

    @property
    def words(self) -> list[int]:
        """Return which columns hold words, to be set flush left."""
        return [k for k, (_, _, form) in enumerate(self.columns) if form == TEXT]

    def texts(self) -> list[list[str]]:
        """Return every cell as text for a person."""
        return [
            [_text(cell, form) for cell, (_, _, form) in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]

    def to_csv(self) -> str:
        """Return the table with all digits; an interval fills three columns, none is empty."""
        stream = io.StringIO()
        writer = plain_csv.writer(stream, lineterminator="\n")
        keys = [[key, f"{key}_low", f"{key}_high"] if form == INTERVAL else [key]
                for _, key, form in self.columns]  # fmt: skip
        writer.writerow([name for group in keys for name in group])
        for row in self.rows:
            cells = [_raw(c, form) for c, (_, _, form) in zip(row, self.columns, strict=True)]
            writer.writerow([value for group in cells for value in group])
        return stream.getvalue()

    def to_rich(self) -> Table:
        """Return the table for the terminal."""
        table = Table(title=self.caption, title_justify="left")
        for heading, _, form in self.columns:
            justify: JustifyMethod = "left" if form == TEXT else "right"
            table.add_column(heading, justify=justify, overflow="fold")  # no name is cut short
        for cells in self.texts():
            table.add_row(*cells)
        return table


def _text(cell: Cell, form: str) -> str:
    if form == INTERVAL:
        return interval(cell if isinstance(cell, Interval) else None)
    if form == P_VALUE:
        return p_value(cell if isinstance(cell, float) else None)
    if isinstance(cell, float):
        return figure(cell)
    return DASH if cell is None else str(cell)


def _raw(cell: Cell, form: str) -> Sequence[object]:
    if form == INTERVAL:
        found = cell if isinstance(cell, Interval) else Interval(None)
        return [found.value, found.low, found.high]
    return [cell]
