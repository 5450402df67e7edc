"""A folder into which images come: each is given out once, when it is whole."""

import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from primia_flwr.data.files.listing import image_files
from primia_flwr.errors import ConfigError

_Mark = tuple[int, int]


@dataclass(frozen=True)
class Arrival:
    """An image file that is whole, at `time` of the clock: since then it has not changed."""

    path: Path
    mark: _Mark
    time: float


class Arrivals:
    """The images that come into a folder and those below it, found by looking again and again.

    A file is whole when its size and its time have not changed for `settle` seconds, by this
    machine's clock, not by the file system's. Names of hidden files, under which many programs
    copy before they rename, are passed over. A file that is changed later is given out again: it
    may be another image of the same name, or the rest of a copy that had paused.

    Parameters
    ----------
    root : Path
        The folder.
    settle : float
        In seconds.
    new_only : bool
        Whether what lies there now is left out.
    clock : callable
        Returns seconds.

    Raises
    ------
    ConfigError
        If it is no folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        settle: float,
        new_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not root.is_dir():
            raise ConfigError(
                f"data.root={root} with watch=true; expected the folder into which the images come"
            )
        self.root, self._settle, self._clock = root, settle, clock
        self._given: dict[Path, _Mark] = {}
        self._growing: dict[Path, Arrival] = {}
        if new_only:
            marks = {path: _mark(path) for path in image_files(root)}
            self._given = {path: mark for path, mark in marks.items() if mark is not None}

    @property
    def is_there(self) -> bool:
        """Whether the folder is: a share may be cut off."""
        return self.root.is_dir()

    def look(self) -> list[Arrival]:
        """Return the files that have become whole since the last look, in order of arrival."""
        now = self._clock()
        seen = [self._seen(path, mark, now) for path, mark in self._changed()]
        whole = [found for found in seen if now - found.time >= self._settle]
        self._given.update((found.path, found.mark) for found in whole)
        self._growing = {f.path: f for f in seen if now - f.time < self._settle}
        return sorted(whole, key=lambda found: (found.time, found.mark[1], found.path))

    def _changed(self) -> Iterator[tuple[Path, _Mark]]:
        """Yield the files that are new or not as they were given out."""
        for path in (*image_files(self.root, known=self._given), *self._given):
            mark = _mark(path)
            if mark is not None and self._given.get(path) != mark:
                yield path, mark

    def _seen(self, path: Path, mark: _Mark, now: float) -> Arrival:
        before = self._growing.get(path)
        return before if before is not None and before.mark == mark else Arrival(path, mark, now)


def _mark(path: Path) -> _Mark | None:
    """Return size and time, in nanoseconds, of a regular file; None for anything else."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
