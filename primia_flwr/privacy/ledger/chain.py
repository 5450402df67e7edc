"""The chain of a ledger: lines of canonical JSON, each with the hash of the one before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from primia_flwr.errors import DataError

KINDS = ("opened", "data", "planned", "charge", "repaired")
GENESIS = "0" * 64
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


def parse(content: bytes, path: Path) -> tuple[list[Entry], bytes]:
    """Return the entries, checked from the first to the last, and an unfinished last line.

    Raises
    ------
    DataError
        Naming the first line that was changed, removed or inserted.
    """
    whole, unfinished = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    entries: list[Entry] = []
    previous, then = GENESIS, ""
    for number, text in enumerate(whole.split(b"\n")[:-1], start=1):
        entry = _read_line(text + b"\n", number, path)
        if (entry.seq, entry.previous) != (number, previous):
            raise _broken(path, number, "does not follow from the line before")
        if entry.time < then:
            raise _broken(path, number, "is older than the line before")
        previous, then = entry.hash, entry.time
        entries.append(entry)
    return entries, unfinished


def line(entry: Entry) -> bytes:
    """Return the one way to write an entry."""
    return _canonical(asdict(entry)) + b"\n"


def _read_line(text: bytes, number: int, path: Path) -> Entry:
    try:
        entry = Entry(**json.loads(text))
        typed = make_entry(
            entry.seq, entry.previous, entry.time, entry.nonce, entry.kind, entry.body
        )
        datetime.fromisoformat(entry.time)
        if entry != typed or line(typed) != text or entry.kind not in KINDS:
            raise ValueError
        if type(entry.seq) is not int or type(entry.body) is not dict:
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise _broken(path, number, "was changed") from None
    return entry


def make_entry(
    seq: int, previous: str, at: str, nonce: str, kind: str, body: dict[str, Any]
) -> Entry:
    """Return an entry with its hash."""
    digest = hashlib.sha256(_canonical([seq, previous, at, nonce, kind, body])).hexdigest()
    return Entry(seq, previous, at, nonce, kind, body, digest)


def _canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _broken(path: Path, number: int, what: str) -> DataError:
    return DataError(
        f"{path}, line {number} {what}; expected an unbroken chain of entries; {REMEDY}"
    )
