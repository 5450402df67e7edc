"""The secure sums of a run, as `secure-sums.jsonl` has them, and what they add up to.

Nothing here is secret: the coordinator knows all of it anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.storage.reading import parse_json, read_bytes, reading

logger = logging.getLogger(__name__)

FILE = "secure-sums.jsonl"
# What a sum is of
STATISTICS, TRAIN, EVALUATE = "statistics", "train", "evaluate"
_FLOAT32 = 4  # bytes


@dataclass
class SumRow:
    """One instance of the protocol.

    `kind`: statistics, train or evaluate. `asked`, `members`, `survivors`, `dropped`: names of
    the sites that were asked, that could mask (U2), that are in the sum, that left in between.
    `degree`: of a sparse graph, 0 on the complete one. `neighbours`: fewest peers with which a
    site shares masks. `signatures`: on a survivor list
    with drops. `numbers`: names of the sums besides the update. `entries`: of the update, each
    off by at most `error_bound` in the mean. `reason`: why there is no sum, else empty.
    `bytes_up`, `bytes_down`: of all sites, the preparation of the next instance included.
    `seconds`: wall time by step. `audit_error`: largest error found by an audit. `ages`: in a
    buffered run, how many rounds old each site's update is, by name.
    """

    round: int
    kind: str
    instance: int
    asked: list[str]
    members: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    threshold: int = 0
    degree: int = 0
    neighbours: int = 0
    min_survivors: int = 0
    max_colluding: int = 0
    signatures: int = 0
    reason: str = ""
    numbers: list[str] = field(default_factory=list)
    entries: int = 0
    step: float = 0.0
    weight_sum: float = 0.0
    error_bound: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    audit_error: float | None = None
    ages: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether there is a sum."""
        return not self.reason

    @property
    def summed(self) -> list[str]:
        """The sites in the sum; nobody where there is none."""
        return self.survivors if self.good else []

    @property
    def absent(self) -> list[str]:
        """Sites that were asked but were not ready to mask; unknown, so none, before U2 is."""
        return [name for name in self.asked if name not in self.members] if self.members else []

    @property
    def sparse(self) -> bool:
        """Whether sites were shown their neighbours only, or masked with fewer than all."""
        return self.degree > 0 or self.neighbours < len(self.members) - 1

    @property
    def bytes_up_each(self) -> float:
        """Sent by a site; what a dropped one sent counts as the others', so at most that."""
        return self.bytes_up / max(len(self.summed or self.asked), 1)

    @property
    def bytes_down_each(self) -> float:
        """Sent to a site."""
        return self.bytes_down / max(len(self.asked), 1)

    @property
    def plain_bytes(self) -> int:
        """Of the update as plain float32."""
        return _FLOAT32 * self.entries

    @property
    def upload_ratio(self) -> float | None:
        """Bytes of a site over those of a plain update; None without update or sum."""
        return self.bytes_up_each / self.plain_bytes if self.good and self.entries else None

    @property
    def audit_ratio(self) -> float | None:
        """The audited error over its bound; None where nobody audited."""
        if self.audit_error is None or not self.error_bound:
            return None
        return self.audit_error / self.error_bound


@dataclass(frozen=True)
class SumFile:
    """What a run wrote down: its sums in order, and how many lines cannot be read."""

    rows: list[SumRow]
    unreadable: int = 0


def read_sum_file(folder: Path) -> SumFile:
    """Read the sums of a run; none where it did not aggregate securely.

    A line that a crash cut short is left out and counted.

    Raises
    ------
    DataError
        If the file is there and cannot be read.
    """
    file = folder / FILE
    expected = "the file as the run wrote it; copy the whole run folder again"
    with reading(file, error=DataError, expected=expected):
        content = read_bytes(file) if file.exists() else b""
    found = [_row(line) for line in content.splitlines()]
    rows = [row for row in found if row]
    return SumFile(rows, len(found) - len(rows))


def read_sums(folder: Path) -> list[SumRow]:
    """Return the sums of a run, as `read_sum_file` reads them; warn of unreadable lines."""
    file = read_sum_file(folder)
    if file.unreadable:
        logger.warning("%s: unreadable lines left out: %d", folder / FILE, file.unreadable)
    return file.rows


def _row(line: bytes) -> SumRow | None:
    known = {item.name for item in fields(SumRow)}
    try:
        values = parse_json(line, finite=False)
        row = SumRow(**{key: values[key] for key in values.keys() & known})
    except (ValueError, TypeError, AttributeError):
        return None
    return (
        row
        if all(_has_type(item.type, getattr(row, item.name)) for item in fields(row))
        else (None)
    )


def _has_type(annotation: object, value: object) -> bool:
    """Say whether a value of a row has the type that the row gives it."""
    kind = str(annotation)
    if kind == "list[str]":
        return isinstance(value, list) and all(type(one) is str for one in value)
    if kind == "dict[str, float]":
        return isinstance(value, dict) and all(type(v) in (int, float) for v in value.values())
    if kind == "float | None" and value is None:
        return True
    return type(value) in {"int": (int,), "str": (str,)}.get(kind, (int, float))


@dataclass(frozen=True)
class _Totals:
    """What the sums of a run add up to.

    `rounds`: that gave a model. `smallest_sum`: sites in the smallest. `error_bound`: the
    largest of an entry of a mean update. `audit_ratio`: the largest audited error over its
    bound. `upload_ratio`: the largest. None where no sum has it.
    """

    rounds: int
    sums: int
    given_up: int
    smallest_sum: int | None
    error_bound: float | None
    audit_ratio: float | None
    upload_ratio: float | None
    bytes_up: int
    bytes_down: int


def totals(rows: Sequence[SumRow]) -> _Totals:
    """Add up."""
    good = [row for row in rows if row.good]
    return _Totals(
        rounds=len({row.round for row in good if row.kind == TRAIN}),
        sums=len(good),
        given_up=len(rows) - len(good),
        smallest_sum=min((len(row.summed) for row in good), default=None),
        error_bound=_largest(row.error_bound or None for row in good),
        audit_ratio=_largest(row.audit_ratio for row in good),
        upload_ratio=_largest(row.upload_ratio for row in good),
        bytes_up=sum(row.bytes_up for row in rows),
        bytes_down=sum(row.bytes_down for row in rows),
    )


@dataclass(frozen=True)
class Change:
    """A sum over other sites than the sum before it."""

    row: SumRow
    left: list[str]
    joined: list[str]


def changes(rows: Iterable[SumRow]) -> list[Change]:
    """Return where the members changed: the difference of two sums tells of those who did."""
    found: list[Change] = []
    before: SumRow | None = None
    for row in (row for row in rows if row.good):
        if before is not None and set(before.summed) != set(row.summed):
            left = [name for name in before.summed if name not in row.summed]
            joined = [name for name in row.summed if name not in before.summed]
            found.append(Change(row, left, joined))
        before = row
    return found


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
