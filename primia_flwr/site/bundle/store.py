"""The folder of arrived bundles, in which a stranger's do not crowd out the one that is awaited.

Anyone who reaches the SuperLink can send code to be looked at, as much as they like. So there is
a waiting room of `MAX_WAITING` bundles and `MAX_WAITING_BYTES` bytes, in which the newest takes
the place of the oldest: what came before never blocks a new release. What comes after could push
it out, hence the hospital can say which hash it expects (`expect`); what it expects or has
approved always has room, and nothing takes that place.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.site.bundle.archive import MAX_BUNDLE_BYTES, sha256
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.printable import shown

MAX_WAITING = 50
MAX_WAITING_BYTES = 256 * 2**20
MAX_EXPECTED = 1000
_HASH = re.compile(r"[0-9a-f]{64}")


class BundleStore:
    """The folder of arrived bundles, one file `<sha256>.fab` each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, content: bytes, *, approved: Collection[str] = ()) -> bool:
        """Keep a bundle for review; False if it is too large to be one.

        The oldest that are neither `approved` nor expected make room for it.
        """
        digest = sha256(content)
        if len(content) > MAX_BUNDLE_BYTES:
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.folder):
            if not self._file(digest).is_file():
                kept = {*approved, *self.expected()}
                if digest not in kept:
                    self._make_room(len(content), kept)
                write_atomic(self._file(digest), content, mode=PRIVATE)
        return True

    def hashes(self) -> list[str]:
        """Return the hashes of the kept bundles, the newest first."""
        found = [(_age(file), file.stem) for file in self._files()]
        return [digest for _, digest in sorted(found, reverse=True)]

    def expect(self, digest: str) -> None:
        """Reserve a place for a bundle that has not arrived, or let it keep its place.

        Raises
        ------
        DataError
            If it is no whole hash, or a great many are expected already.
        """
        check_whole_hash(digest)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if len(self.expected()) >= MAX_EXPECTED:
            raise DataError(
                f"{self.folder} has {MAX_EXPECTED} expected bundles; expected fewer; delete its "
                "files *.expected that are over"
            )
        (self.folder / f"{digest}.expected").touch(mode=0o600)

    def expected(self) -> set[str]:
        """Return the hashes that the hospital has said it expects."""
        return {f.stem for f in self.folder.glob("*.expected") if _HASH.fullmatch(f.stem)}

    def find(self, beginning: str) -> str:
        """Return the one hash that starts with `beginning` (at least 8 digits).

        To look at a bundle, not to approve it: whoever may send bundles can make two that begin
        alike.

        Raises
        ------
        DataError
            If none or several do.
        """
        if not re.fullmatch(r"[0-9a-f]{8,64}", beginning):
            raise DataError(
                f"bundle={shown(beginning)}; expected 8 to 64 hex digits, e.g. 3fa91c02"
            )
        matches = [name for name in self.hashes() if name.startswith(beginning)]
        if len(matches) != 1:
            raise DataError(
                f"bundle={shown(beginning, limit=70)} fits {len(matches)} of the bundles that "
                "arrived here; expected one; `primia site review` lists them"
            )
        return matches[0]

    def read(self, digest: str) -> bytes:
        """Return the content of a kept bundle and check that it is still the same.

        Raises
        ------
        DataError
            If the file cannot be read, or does not have the hash that it is called by.
        """
        file = self._file(digest)
        try:
            with file.open("rb") as stream:
                content = stream.read(MAX_BUNDLE_BYTES + 1)
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}); ask for it again") from None
        if sha256(content) != digest:
            raise DataError(f"{file} was changed; delete it and ask again")
        return content

    def _file(self, digest: str) -> Path:
        return self.folder / f"{digest}.fab"

    def _files(self) -> list[Path]:
        return [f for f in self.folder.glob("*.fab") if _HASH.fullmatch(f.stem) and f.is_file()]

    def _make_room(self, size: int, kept: Collection[str]) -> None:
        """Remove the oldest bundles that nobody asked to keep until `size` bytes more fit."""
        waiting = sorted((_age(f), f.stem, f) for f in self._files() if f.stem not in kept)
        room = sum(file.stat().st_size for *_, file in waiting)
        while waiting and (len(waiting) >= MAX_WAITING or room + size > MAX_WAITING_BYTES):
            *_, oldest = waiting.pop(0)
            room -= oldest.stat().st_size
            oldest.unlink()


def check_whole_hash(digest: str) -> None:
    """Refuse anything but 64 hex digits.

    Raises
    ------
    DataError
        If it is shorter, longer or something else.
    """
    if not _HASH.fullmatch(digest):
        raise DataError(
            f"bundle={shown(digest, limit=70)}; expected the whole hash, 64 hex digits, as the "
            "coordinator or the release tells it: a beginning of 12 digits can be forged within "
            "minutes; `primia site review` shows whole hashes"
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes of this program out of a folder's files meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _age(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
