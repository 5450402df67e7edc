"""The ledger's file: one canonical JSON object a line, chained by hashes, locked while in use.

An entry counts once its line is on the disk (`fsync`) and `head.json`, beside it, names it. Only
then does `append` return, and only then may something be released. What a crash can leave is told
apart from what somebody cut off by that second file:

- an unfinished last line, and the head names the entry before it: nothing was released for it; it
  is cut off, and an entry says so;
- a whole last line that the head does not name yet: it counts;
- anything else, and any file in the folder that no entry left (`ledger_folder`): the ledger refuses
  to be used. A charge that may have been lost must never become a release that nobody was charged
  for.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.chain import CHAIN, REMEDY, Entry, parse
from primia_flwr.privacy.ledger.folder import HEAD, check_whole, leave_witness, settle
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic, writing
from primia_flwr.storage.chain import GENESIS
from primia_flwr.storage.journal import JournalFile

LEDGER = "ledger.jsonl"
_CLOCK_SLACK = 2.0  # seconds that a time server may take a clock back
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Head:
    """The newest entry's number and hash: what witnesses keep."""

    seq: int
    hash: str


class LedgerFile:
    """The open, locked and verified file; a context manager.

    Parameters
    ----------
    folder : Path
        Made if missing, unless `read_only`.
    read_only : bool
        Several readers at once, nothing is written, an unfinished line is left where it is.
    wait : float
        Seconds to wait for another process to let go of the ledger.
    clock : callable
        Seconds since 1970, UTC.

    Raises
    ------
    DataError
        If it is in use for longer, is damaged, shorter than it was, or cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        read_only: bool = False,
        wait: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.read_only, self._clock = folder, read_only, clock
        self.path = folder / LEDGER
        self.entries: list[Entry] = []
        self.unfinished, self._usable = b"", False
        self._journal = self._open(wait)
        try:
            self._verify()
        except OSError as error:
            self.close()
            raise DataError(f"{self.path} cannot be used ({error.strerror})") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the ledger."""
        self._usable = False
        self._journal.close()

    @property
    def head(self) -> Head:
        """The newest entry; number 0 and zeros before the first."""
        if not self.entries:
            return Head(0, GENESIS)
        return Head(self.entries[-1].seq, self.entries[-1].hash)

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Write one entry; it is on the disk when this returns.

        Raises
        ------
        DataError
            If the clock went back, or it cannot be written; then nothing may be released.
        """
        if not self._usable:
            raise DataError(f"{self.path} is not open for writing; open the ledger anew")
        head = self.head
        values = (head.seq + 1, head.hash, self._now(), secrets.token_hex(8), kind, dict(body))
        entry = CHAIN.entry(*values)
        self._usable = False  # what a failure below leaves behind is for the next opening to judge
        remedy = (
            "nothing is released that cannot be written down; make room or mend the disk, then "
            "try again"
        )
        with writing(self.path, error=DataError, remedy=remedy):
            self._journal.append(CHAIN.line(entry))
            self._write_head(Head(entry.seq, entry.hash))
            leave_witness(self.folder, entry.seq, entry.hash)
        self._usable = True
        self.entries.append(entry)
        return entry

    def _open(self, wait: float) -> JournalFile:
        try:
            if not self.read_only:
                make_folder(self.folder)
            return JournalFile(self.path, read_only=self.read_only, wait=wait)
        except FileNotFoundError:
            raise DataError(
                f"{self.path} does not exist; expected a site's privacy ledger, e.g. "
                "state/privacy; it begins with the first private run"
            ) from None
        except TimeoutError:
            raise DataError(
                f"{self.path} has been in use by another process for {wait:g} s; expected one run "
                "at a time on one ledger; try again when the other run is over"
            ) from None
        except OSError as error:
            raise DataError(f"{self.path} cannot be opened ({error.strerror})") from None

    def _verify(self) -> None:
        self.entries, self.unfinished = parse(b"".join(self._journal.lines()), self.path)
        known = read_head(self.folder) or Head(0, GENESIS)
        self._compare_with(known)
        if self.entries:
            check_whole(self.folder, self.entries, head_is_there=known.seq > 0)
        if not self.read_only:
            self._mend(known)

    def _mend(self, known: Head) -> None:
        """Finish what a crash has left half done."""
        self._usable = True
        if self.entries and self.head != known:
            self._write_head(self.head)
        if self.unfinished:
            self._cut_off()
        if self.entries:
            settle(self.folder, self.entries)
            leave_witness(self.folder, *astuple(self.head))

    def _compare_with(self, known: Head) -> None:
        if known.seq == 0 and len(self.entries) > 1:
            raise DataError(f"{self.folder / HEAD} is missing; {REMEDY}")
        if known.seq > len(self.entries):
            raise DataError(
                f"{self.path} ends at entry {len(self.entries)}; expected entry {known.seq}, which "
                f"{HEAD} names: its end was cut off or damaged, or an old copy was put back; "
                f"{REMEDY}"
            )
        ahead = len(self.entries) - known.seq
        named = known.seq == 0 or self.entries[known.seq - 1].hash == known.hash
        if not named or ahead > 1 or (ahead == 1 and self.unfinished):
            raise DataError(
                f"{self.path} and {HEAD} do not belong together; expected entry {known.seq} with "
                f"hash {known.hash[:12]}… as the newest; one of them was replaced; {REMEDY}"
            )

    def _cut_off(self) -> None:
        """Remove an unfinished line, which the head shows nothing was released for."""
        self._journal.cut_off(self._journal.size - len(self.unfinished))
        if self.entries:
            cut = {
                "bytes": len(self.unfinished),
                "sha256": hashlib.sha256(self.unfinished).hexdigest(),
            }
            self.append("repaired", cut)
        self.unfinished = b""

    def _now(self) -> str:
        now = self._clock()
        if not self.entries:
            return _stamp(now)
        last = datetime.fromisoformat(self.entries[-1].time).timestamp()
        if now < last - _CLOCK_SLACK:
            raise DataError(
                f"the clock says {_stamp(now)}, before the newest entry of {self.path}, "
                f"{self.entries[-1].time}; expected a clock that only goes forward; nothing is "
                "released; set the clock, or find out whether an old copy was put back"
            )
        return _stamp(max(now, last))

    def _write_head(self, head: Head) -> None:
        content = json.dumps(asdict(head), sort_keys=True) + "\n"
        write_atomic(self.folder / HEAD, content, mode=PRIVATE)


def read_head(folder: Path) -> Head | None:
    """Return what `head.json` says; None where there is none.

    Raises
    ------
    DataError
        If it is not what a ledger writes.
    """
    path = folder / HEAD
    try:
        content = json.loads(path.read_bytes())
        head = Head(**content)
        if type(head.seq) is not int or head.seq < 0 or not _HASH.fullmatch(head.hash):
            raise ValueError
        return head
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError):
        expected = f"expected what the ledger wrote; {REMEDY}"
        raise DataError(f"{path} cannot be read; {expected}") from None


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()
