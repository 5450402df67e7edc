"""The chain of a ledger: lines of canonical JSON, each with the hash of the one before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from primia_flwr.errors import DataError
from primia_flwr.storage.chain import Chain

KINDS = ("opened", "data", "planned", "charge", "repaired")
REMEDY = (
    "nothing is released; keep the folder as it is, find out what changed it, and ask the "
    "coordinator which head it saw last"
)


@dataclass(frozen=True)
class Entry:
    """One line. `time`: UTC, whole seconds. `hash`: SHA-256 of all else in canonical form.

    `nonce` is random, so that a ledger that goes on from an old copy gets other hashes even where
    it repeats the same charge in the same second.
    """

    seq: int
    previous: str
    time: str
    nonce: str
    kind: str
    body: dict[str, Any]
    hash: str


CHAIN = Chain(Entry)


def parse(content: bytes, path: Path) -> tuple[list[Entry], bytes]:
    """Return the entries, checked from the first to the last, and an unfinished last line.

    Raises
    ------
    DataError
        Naming the first line that was changed, removed or inserted.
    """
    *whole, unfinished = content.split(b"\n")
    entries: list[Entry] = []
    try:
        for entry in CHAIN.follow(line + b"\n" for line in whole):
            _check(entry, after=entries[-1].time if entries else "")
            entries.append(entry)
    except ValueError as error:
        raise DataError(
            f"{path}, line {len(entries) + 1} {error}; expected an unbroken chain of entries; "
            f"{REMEDY}"
        ) from None
    return entries, unfinished


def _check(entry: Entry, *, after: str) -> None:
    """Refuse a well chained line that no ledger writes, or one that is older than the last."""
    try:
        datetime.fromisoformat(entry.time)
    except ValueError:
        raise ValueError("was changed") from None
    if entry.kind not in KINDS:
        raise ValueError("was changed")
    if entry.time < after:
        raise ValueError("is older than the line before")
