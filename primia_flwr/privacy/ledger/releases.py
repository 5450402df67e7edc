"""Noisy outputs that were paid for, kept so that a repeated request is answered for free.

The same bytes twice say no more than once. A file belongs to one charge of the ledger, is
authenticated with the ledger's key, and is on the disk before it may leave.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.folder import RELEASES
from primia_flwr.storage.atomic import PRIVATE, make_folder, write_atomic, writing

_TAG_BYTES = 32


class Releases:
    """The folder of kept outputs."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder, self._key = folder / RELEASES, key

    def write(self, seq: int, charge: str, content: bytes) -> None:
        """Keep the output that a charge (its number and hash) paid for; durable on return.

        Raises
        ------
        DataError
            If it cannot be written; then it must not leave.
        """
        path = self._path(seq, charge)
        remedy = "nothing is released; make room; the round is then charged again"
        with writing(path, error=DataError, remedy=remedy):
            make_folder(self._folder)
            write_atomic(path, self._tag(charge, content) + content, mode=PRIVATE)

    def read(self, seq: int, charge: str) -> bytes | None:
        """Return what was kept for a charge; None where nothing is (any more).

        Raises
        ------
        DataError
            If it was changed or cannot be read.
        """
        path = self._path(seq, charge)
        if not path.exists():
            path = self._old_path(seq)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})") from None
        tag, content = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(charge, content)):
            raise DataError(
                f"{path} was changed; expected the output that entry {seq} of the "
                "ledger paid for; nothing is released; delete the file, and the round is charged "
                "again"
            )
        return content

    def drop(self, charges: Iterable[tuple[int, str]]) -> None:
        """Delete what was kept for charges whose rounds are over; what stays does no harm."""
        for seq, charge in charges:
            for path in (self._path(seq, charge), self._old_path(seq)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _path(self, seq: int, charge: str) -> Path:
        """Return a name that says which charge paid for it: a ledger without that is refused."""
        return self._folder / f"{seq}-{charge}.release"

    def _old_path(self, seq: int) -> Path:
        """Return the name that versions before 2026-11-29 gave."""
        return self._folder / f"{seq}.release"

    def _tag(self, charge: str, content: bytes) -> bytes:
        context = b"primia privacy release v1\0" + charge.encode("ascii")
        keyed = hmac.new(self._key, context, hashlib.sha256)
        keyed.update(content)
        return keyed.digest()
