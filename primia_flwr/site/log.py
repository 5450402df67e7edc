"""The site's append-only log: who asked for what, what was decided, what left the house.

One JSON object a line. Each line carries the hash of the line before it, so that a line that
was changed, removed or inserted later breaks the chain; removing the newest lines does not,
which is why `primia site log` prints the last hash for the hospital to note elsewhere.

What a stranger wrote comes in here: texts are kept short and free of characters that would steer
a terminal.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from primia_flwr.errors import DataError
from primia_flwr.storage.chain import GENESIS, Chain
from primia_flwr.storage.journal import JournalFile
from primia_flwr.storage.printable import printable, shown

EVENTS = (
    *("started", "stopped", "request", "stored", "refused", "accepted"),
    *("failed", "left", "approved", "given-up", "warning", "alert-failed"),
)
_LONGEST_TEXT = 2000
_MAX_DETAILS = 50


@dataclass(frozen=True)
class LogEntry:
    """One line of the log; `hash` is the SHA-256 of everything else in it."""

    number: int
    time: str
    event: str
    details: dict[str, Any]
    previous: str
    hash: str


_CHAIN = Chain(LogEntry, separators=(", ", ": "), allow_nan=True)


class LogTail:
    """Reads what was added to a log since the last look; the chain is checked elsewhere."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._position = file.stat().st_size if file.is_file() else 0

    def new(self) -> list[LogEntry]:
        """Return the entries that were added, oldest first; without lines that are none."""
        if not self._file.is_file():
            return []
        found = []
        with JournalFile(self._file, read_only=True) as journal:
            for line in journal.lines(self._position):
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                with contextlib.suppress(ValueError):
                    found.append(_CHAIN.read(line))
        return found


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
        details = {_plain(key): _plain(value) for key, value in [*details.items()][:_MAX_DETAILS]}
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        with JournalFile(self.file) as journal:
            number, previous = self._newest(journal)
            entry = _CHAIN.entry(number + 1, time, event, details, previous)
            journal.append(_CHAIN.line(entry))
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
        number = 0
        with self._opened() as journal:
            try:
                for entry in _CHAIN.follow(journal.lines()):
                    yield entry
                    number = entry.number
            except ValueError:
                raise _broken(self.file, number + 1) from None

    def _newest(self, journal: JournalFile) -> tuple[int, str]:
        """Return number and hash of the newest entry; 0 and zeros before the first."""
        line = journal.last()
        if not line:
            return 0, GENESIS
        try:
            last = _CHAIN.read(line)
        except ValueError:
            raise _broken(self.file, None) from None
        return last.number, last.hash

    def _opened(self) -> JournalFile:
        try:
            return JournalFile(self.file, read_only=True)
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
    return printable(value if isinstance(value, str) else shown(value), limit=_LONGEST_TEXT)


def _broken(file: Path, number: int | None) -> DataError:
    where = f"entry {number}" if number else "the newest entry"
    return DataError(
        f"{file}: {where} does not follow from the one before; expected an unbroken chain of "
        "hashes; the log was changed or a write was cut short: keep the file, start a new one"
    )
