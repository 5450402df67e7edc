"""Files of lines that only grow: each line is there whole and on the disk, or not at all.

A disk that is full for a moment leaves no half line. A process that is killed may: the last line
then lacks its end, and nothing that depends on it has left. Whether that line is cut off, ended
or refused is for the owner of the lines to say.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from primia_flwr.storage.atomic import PRIVATE, fsync_path, write_all

_PAUSE = 0.05  # seconds between two looks at a lock
_BLOCK = 4096


class JournalFile:
    """An open file of lines, locked until it is closed; a context manager.

    Parameters
    ----------
    path : Path
        Made where it is missing, unless `read_only`.
    read_only : bool
        Several readers at once, and nothing is written.
    wait : float, optional
        Seconds to wait until other processes let go of it; None: as long as it takes.
    mode : int
        Permission bits of a new file, less the process' umask.

    Raises
    ------
    TimeoutError
        If it is in use for longer.
    OSError
        If it cannot be opened, or is no regular file.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, wait: float | None = None, mode: int = PRIVATE
    ) -> None:
        self.path = path
        how = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(path, how | os.O_CLOEXEC | os.O_NONBLOCK, mode)
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            self._lock(fcntl.LOCK_SH if read_only else fcntl.LOCK_EX, wait)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a forked child may hold a copy
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._descriptor).st_size

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """Yield the lines from a byte on, each with its end, which the last one may lack."""
        with os.fdopen(os.dup(self._descriptor), "rb") as stream:
            stream.seek(start)
            yield from stream

    def last(self) -> bytes:
        """Return the newest line; nothing of an empty file."""
        size, block = self.size, _BLOCK
        while True:
            found = list(self.lines(max(0, size - block)))
            if len(found) > 1 or block >= size:
                return found[-1] if found else b""
            block *= 4

    def append(self, line: bytes) -> None:
        """Add bytes at the end; they are on the disk when this returns.

        Raises
        ------
        OSError
            If they cannot be written; then none of them stay.
        """
        before = self.size
        try:
            write_all(self._descriptor, line)
            os.fsync(self._descriptor)
            if before == 0:
                fsync_path(self.path.parent)
        except OSError:
            with contextlib.suppress(OSError):  # else the next reader finds half a line
                os.ftruncate(self._descriptor, before)
            raise

    def cut_off(self, size: int) -> None:
        """Remove what follows so many bytes: a line that a killed process left without its end."""
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)

    def _lock(self, how: int, wait: float | None) -> None:
        until = None if wait is None else time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self._descriptor, how | (fcntl.LOCK_NB if until else 0))
                return
            except BlockingIOError:
                if until and time.monotonic() >= until:
                    raise TimeoutError(errno.ETIMEDOUT, "it is in use") from None
                time.sleep(_PAUSE)


def append_line(path: Path, line: bytes) -> None:
    """Add one line, given without its end; one before it that a killed process left ends there.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with JournalFile(path, mode=0o666) as journal:
        torn = not journal.last().endswith(b"\n") and journal.size > 0
        journal.append(b"\n" * torn + line + b"\n")
