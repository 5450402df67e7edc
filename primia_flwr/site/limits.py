"""What single patients allow: the most that all runs together may cost each of them.

The hospital's own table, `patient,epsilon`: 0 takes a patient out of every run, another number
lets the patient into private runs that keep within it. Nobody else reads it, and nothing of it
leaves. Source of the wish: Shome, Amiri, Belloum, systematic review, "the limit should be set by
the patients themselves".
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from primia_flwr.data.names import key_of
from primia_flwr.errors import ConfigError
from primia_flwr.storage import plain_csv
from primia_flwr.storage.printable import printable
from primia_flwr.storage.reading import read_text, reading

_COLUMNS = ["patient", "epsilon"]
_MOST_BYTES = 1 << 26
_LARGEST = 1000.0


@dataclass(frozen=True)
class PatientLimits:
    """The epsilon that a patient allows, by what all spellings of the name share."""

    of: Mapping[str, float] = field(default_factory=dict)

    @property
    def opted_out(self) -> frozenset[str]:
        """Those who take part in nothing."""
        return frozenset(key for key, limit in self.of.items() if limit == 0)

    @property
    def limited(self) -> dict[str, float]:
        """Those who take part in private runs within their limit."""
        return {key: limit for key, limit in self.of.items() if limit > 0}

    def outside(self, *, private: bool) -> frozenset[str]:
        """Return who takes no part whatever was spent: without privacy an epsilon is infinite."""
        return self.opted_out if private else frozenset(self.of)


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Return the lines below the first that are not empty, with their numbers."""
    expected = "a CSV file patient,epsilon in UTF-8, as patient_limits of site.yaml names it"
    with reading(file, error=ConfigError, expected=expected):
        text = read_text(file, at_most=_MOST_BYTES).removeprefix("\ufeff")
        lines = plain_csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(lines.line_num, [cell.strip() for cell in cells]) for cells in lines]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if not rows or rows[0][1] != _COLUMNS:
        first = printable(",".join(rows[0][1]) if rows else "nothing", limit=80)
        raise ConfigError(f"{file}: first line is {first}; expected {','.join(_COLUMNS)}")
    return rows[1:]


def read_limits(file: Path) -> PatientLimits:
    """Read a site's table of limits.

    Raises
    ------
    ConfigError
        If it cannot be read, has other columns, or a line names nobody, somebody twice, or no
        number from 0 to 1000: then nobody takes part in anything.
    """
    found: dict[str, float] = {}
    for number, cells in _lines(file):
        key, limit = _limit(f"{file}, line {number}", cells)
        if key in found:
            raise ConfigError(
                f"{file}, line {number}: {printable(cells[0], limit=80)} occurs twice, in any "
                "spelling; expected one limit a patient"
            )
        found[key] = limit
    return PatientLimits(found)


def _limit(where: str, cells: list[str]) -> tuple[str, float]:
    if len(cells) != len(_COLUMNS) or not key_of(cells[0]):
        shown = printable(",".join(cells), limit=80)
        raise ConfigError(f"{where}: {shown}; expected a patient and an epsilon, e.g. p0017,1.5")
    try:
        limit = float(cells[1])
    except ValueError:
        limit = math.nan
    if not 0 <= limit <= _LARGEST:
        raise ConfigError(
            f"{where}: epsilon={printable(cells[1], limit=40)}; expected a number from 0 (takes no "
            f"part) to {_LARGEST:g}, with a decimal point"
        )
    return key_of(cells[0]), limit
