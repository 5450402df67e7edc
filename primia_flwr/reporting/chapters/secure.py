"""The tables of a run's secure sums, the same in `primia secagg show` and in the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from primia_flwr.numbers import DASH, figure, scientific, size
from primia_flwr.reporting.chapters.secure_account import account, label
from primia_flwr.runs.folder import RunFolder
from primia_flwr.runs.secure_sums import SumFile, SumRow, totals

_STEPS = ("keys", "shares", "vectors", "signatures", "unmask")

_WHO = ("Sum", "Asked", "In the sum", "Masked with", "Threshold", "Signed", "Outcome")
_COST = ("Sum", "Up", "Plain float32", "Ratio", "Down", "Error bound", "Audited error")


@dataclass(frozen=True)
class Sheet:
    """A table: its caption, its headings, and its cells."""

    caption: str
    headings: Sequence[str]
    lines: list[list[str]]

    @property
    def words(self) -> list[int]:
        """Return which columns hold words, to be set flush left."""
        return [k for k, heading in enumerate(self.headings) if heading in ("Sum", "Outcome")]


def secure_chapter(folder: RunFolder) -> dict[str, Any]:
    """Return the account of the secure sums; nothing where the run has none."""
    rows = folder.secure.rows
    if not rows:
        return {}
    return {
        "headline": headline(folder.secure),
        "sheets": sheets(rows),
        "audited": any(row.audit_error is not None for row in rows),
        "chapters": account(rows, folder.task, one_machine=folder.one_machine),
    }


def sheets(rows: Sequence[SumRow]) -> list[Sheet]:
    """Return the tables with one line a sum: its sites, its cost and exactness, its time."""
    steps = list(dict.fromkeys((*_STEPS, *(step for row in rows for step in row.seconds))))
    steps = [step for step in steps if any(step in row.seconds for row in rows)]
    return [
        Sheet("Who is in each sum", _WHO, [_who(row) for row in rows]),
        Sheet("What it cost a site, and how exact it is", _COST, [_cost(row) for row in rows]),
        Sheet("Seconds by step", ("Sum", *steps), [_seconds(row, steps) for row in rows]),
    ]


def headline(file: SumFile) -> list[tuple[str, str]]:
    """Return the totals with their names."""
    total = totals(file.rows)
    audited = total.audit_ratio
    pairs = [
        ("Rounds", str(total.rounds)),
        ("Sums learned", str(total.sums)),
        ("Sums given up", str(total.given_up)),
        ("Fewest sites in a sum", str(total.smallest_sum or DASH)),
        ("Largest error bound", scientific(total.error_bound)),
        ("Largest audited error", f"{audited:.3f} of its bound" if audited is not None else ""),
        ("Sent by the sites", size(total.bytes_up)),
        ("Sent to the sites", size(total.bytes_down)),
        ("Unreadable lines", str(file.unreadable or "")),
    ]
    return [(name, value) for name, value in pairs if value]


def _who(row: SumRow) -> list[str]:
    return [
        label(row),
        str(len(row.asked)),
        str(len(row.summed)),
        f"{row.neighbours} of {len(row.members) - 1}" if row.members else DASH,
        str(row.threshold or DASH),
        str(row.signatures) if row.dropped else DASH,
        _outcome(row),
    ]


def _cost(row: SumRow) -> list[str]:
    return [
        label(row),
        size(row.bytes_up_each),
        size(row.plain_bytes) if row.entries else DASH,
        figure(row.upload_ratio),
        size(row.bytes_down_each),
        scientific(row.error_bound or None),
        scientific(row.audit_error),
    ]


def _seconds(row: SumRow, steps: Sequence[str]) -> list[str]:
    return [label(row), *(figure(row.seconds.get(step), 2) for step in steps)]


def _outcome(row: SumRow) -> str:
    parts = ["sum" if row.good else f"no sum: {row.reason}"]
    parts += [f"dropped out: {', '.join(row.dropped)}"] if row.dropped else []
    parts += [f"not ready: {', '.join(row.absent)}"] if row.absent else []
    return "; ".join(parts)
