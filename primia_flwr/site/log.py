"""The site's append-only log: who asked for what, what was decided, what left the house.

One JSON object a line. Each line carries the hash of the line before it, so that a line that
was changed, removed or inserted later breaks the chain; removing the newest lines does not,
which is why `primia site log` prints the last hash for the hospital to note elsewhere.

What a stranger wrote comes in here: texts are kept short and free of characters that would steer
a terminal.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from primia_flwr.errors import DataError
from primia_flwr.storage.appending import append_whole
from primia_flwr.storage.printable import printable, shown

EVENTS = (
    *("started", "stopped", "request", "stored", "refused", "accepted"),
    *("failed", "left", "approved"),
)
_GENESIS = "0" * 64
LONGEST_TEXT = 2000
MAX_DETAILS = 50


@dataclass(frozen=True)
class LogEntry:
    """One line of the log; `hash` is the SHA-256 of everything else in it."""

    number: int
    time: str
    event: str
    details: dict[str, Any]
    previous: str
    hash: str


class SiteLog:
    """Appends to and reads one log file. Safe for several processes at once."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def append(self, event: str, **details: Any) -> LogEntry:
        """Write one entry and return only when it is on the disk.

        Raises
        ------
        DataError
            If the event is unknown, or the newest line of the file is damaged.
        OSError
            If it cannot be written; the caller must then not go on.
        """
        if event not in EVENTS:
            raise DataError(f"event={event!r}; expected one of {', '.join(EVENTS)}")
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        details = {_plain(key): _plain(value) for key, value in [*details.items()][:MAX_DETAILS]}
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            last = _newest(stream, self.file)
            number, previous = (last.number + 1, last.hash) if last else (1, _GENESIS)
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            entry = LogEntry(
                number,
                time,
                event,
                details,
                previous,
                _hash(number, time, event, details, previous),
            )
            append_whole(stream.fileno(), _line(entry))
            return entry

    def entries(self) -> Iterator[LogEntry]:
        """Yield the entries from the oldest on, checking the chain.

        Raises
        ------
        DataError
            At the first line that was changed, removed or inserted.
        """
        if not self.file.is_file():
            return
        previous, expected = _GENESIS, 1
        with self._opened() as stream:
            for line in stream:
                entry = _parse(line, self.file, expected)
                if (entry.number, entry.previous) != (expected, previous):
                    raise _broken(self.file, expected)
                yield entry
                previous, expected = entry.hash, expected + 1

    def _opened(self) -> BinaryIO:
        try:
            return self.file.open("rb")
        except OSError as error:
            raise DataError(
                f"{self.file} cannot be read ({error.strerror}); expected the site's log; it "
                "belongs to the account that runs the site"
            ) from None


def _plain(value: Any) -> Any:
    """Return a value of one line: numbers as they are, anything else as short printable text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 2**64:
        return value
    return printable(value if isinstance(value, str) else shown(value), limit=LONGEST_TEXT)


def _newest(stream: BinaryIO, file: Path) -> LogEntry | None:
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        return None
    block = 4096
    while True:
        stream.seek(max(0, size - block))
        lines = stream.read(size).splitlines(keepends=True)
        if len(lines) > 1 or block >= size:
            return _parse(lines[-1], file, None)
        block *= 4


def _parse(line: bytes, file: Path, number: int | None) -> LogEntry:
    try:
        if not line.endswith(b"\n"):
            raise ValueError("incomplete line")
        entry = LogEntry(**json.loads(line))
        intact = _has_types(entry) and entry.hash == _hash(
            entry.number, entry.time, entry.event, entry.details, entry.previous
        )
    except (ValueError, TypeError, RecursionError):
        raise _broken(file, number) from None
    if not intact:
        raise _broken(file, number)
    return entry


def _has_types(entry: LogEntry) -> bool:
    texts = (entry.time, entry.event, entry.previous, entry.hash)
    return (
        type(entry.number) is int
        and isinstance(entry.details, dict)
        and all(isinstance(text, str) for text in texts)
    )


def _hash(number: int, time: str, event: str, details: dict[str, Any], previous: str) -> str:
    content = json.dumps([number, time, event, details, previous], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _line(entry: LogEntry) -> bytes:
    return json.dumps(entry.__dict__, sort_keys=True).encode() + b"\n"


def _broken(file: Path, number: int | None) -> DataError:
    where = f"entry {number}" if number else "the newest entry"
    return DataError(
        f"{file}: {where} does not follow from the one before; expected an unbroken chain of "
        "hashes; the log was changed or a write was cut short: keep the file, start a new one"
    )
