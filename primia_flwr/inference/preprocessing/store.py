"""Blocks of correlated randomness that wait on disk, each opened once.

Every block is sealed with AES-256-GCM under a key that lives in this process's memory only, and a
store serves one session between two parties that drew fresh nonces for it. So a block cannot
outlive what may use it: after a crash, a restart, or a restored disk, nothing can open it, and
there is no mark on disk to be rewound. Within the session the mark in memory goes up, and the file
is deleted, before a block is opened.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from filelock import FileLock, Timeout

from primia_flwr.errors import ProtocolError, ServiceError

_PIECE_BYTES = 1 << 28
_HEAD_BYTES = 9  # a flag: more of this part follows; and the length
_PREFIX = "primia-store-"
_LOCK = "in-use.lock"
_MAKING = "primia-store.lock"  # held while one is made and what was left is removed


class Store:
    """The blocks of one session. One thread may put while another one takes.

    Parameters
    ----------
    folder : Path
        Where a folder of its own is made; what dead processes left there is removed.
    session : bytes
        Of both parties' nonces: bound into every seal.
    limit_bytes : int
        The most that its blocks may take on disk.

    Raises
    ------
    ServiceError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, session: bytes, *, limit_bytes: int) -> None:
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._session, self._limit = session, limit_bytes
        self._sizes: dict[int, int] = {}
        self._mark = 0
        self._guard = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                raise OSError(0, "it is another user's")
            with FileLock(folder / _MAKING):
                remove_left_over(folder)
                self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
                self._lock = FileLock(self._folder / _LOCK)
                self._lock.acquire(blocking=False)
        except OSError as error:
            raise ServiceError(
                f"store.folder={folder} cannot be written ({error.strerror}); expected a folder of "
                "one's own for the randomness that is fetched ahead"
            ) from None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The blocks that wait, in order."""
        with self._guard:
            return tuple(sorted(self._sizes))

    @property
    def used_bytes(self) -> int:
        """What the waiting blocks take on disk."""
        with self._guard:
            return sum(self._sizes.values())

    def has_room(self, num_bytes: int) -> bool:
        """Say whether a block of that size fits: the first always does."""
        return not self.numbers or self.used_bytes + num_bytes <= self._limit

    def put(self, number: int, parts: Iterable[bytes]) -> None:
        """Seal a block, part after part as they come; it can be taken once it is whole.

        Raises
        ------
        ProtocolError
            If its number is not above all that were put or taken.
        ServiceError
            If the disk is full; nothing of the block stays.
        """
        if number < self._mark or number in self._sizes:
            raise ProtocolError(f"block {number} comes a second time; expected {self._mark} or up")
        file = self._file(number)
        try:
            with file.open("xb") as stream:
                for index, (piece, more) in enumerate(_pieces(parts)):
                    context = self._session + bytes([more])
                    sealed = self._cipher.encrypt(_nonce(number, index), piece, context)
                    stream.write(bytes([more]) + len(sealed).to_bytes(8, "big"))
                    stream.write(sealed)
                size = stream.tell()
            with self._guard:
                self._sizes[number] = size
        except OSError as error:
            raise ServiceError(
                f"{file.parent} is full or gone ({error.strerror}); expected room for blocks; "
                "lower prefetch, or set store.folder= to another disk"
            ) from None
        finally:
            if number not in self._sizes:
                file.unlink(missing_ok=True)

    def take(self, number: int) -> list[bytes]:
        """Delete a block's file and those before it, and return its parts.

        Raises
        ------
        ProtocolError
            If it was taken, or passed over, before.
        ServiceError
            If it is not in the store, or the file was changed.
        """
        if number < self._mark:
            raise ProtocolError(
                f"block {number} was used or burned; expected {self._mark} or above: no randomness "
                "serves twice"
            )
        if number not in self._sizes:
            raise ServiceError(f"block {number} is not in the store; expected it fetched ahead")
        self._mark = number + 1
        parts = list(self._read(number))
        for passed in [known for known in self.numbers if known <= number]:
            self._file(passed).unlink(missing_ok=True)
            with self._guard:
                del self._sizes[passed]
        return parts

    def close(self) -> None:
        """Remove the store."""
        self._lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, number: int) -> Iterator[bytes]:
        file = self._file(number)
        try:
            stream = file.open("rb")
        except OSError as error:
            raise ServiceError(f"{file} cannot be read ({error.strerror})") from None
        with stream:
            file.unlink()
            left = self._sizes[number]
            pieces, index = list[bytes](), 0
            while left > 0:
                head = stream.read(_HEAD_BYTES)
                length = int.from_bytes(head[1:], "big")
                sealed = stream.read(min(length, left))
                left -= _HEAD_BYTES + length
                pieces.append(self._open(number, index, sealed, head[:1]))
                index += 1
                if head[:1] == b"\0":
                    yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    pieces = []

    def _open(self, number: int, index: int, sealed: bytes, more: bytes) -> bytes:
        try:
            return self._cipher.decrypt(_nonce(number, index), sealed, self._session + more)
        except Exception:
            raise ServiceError(
                f"block {number} of the store was changed or cut off; it is thrown away"
            ) from None

    def _file(self, number: int) -> Path:
        return self._folder / f"block-{number:08d}.sealed"


def remove_left_over(folder: Path) -> None:
    """Remove the stores of processes that are no longer there: nobody can open them."""
    for left in folder.glob(f"{_PREFIX}*"):
        lock = FileLock(left / _LOCK)
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            continue
        lock.release()
        shutil.rmtree(left, ignore_errors=True)


def _pieces(parts: Iterable[bytes]) -> Iterator[tuple[memoryview, bool]]:
    """Cut parts into what one seal can hold; the flag says that the part goes on."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, max(len(view), 1), _PIECE_BYTES):
            end = start + _PIECE_BYTES
            yield view[start:end], end < len(view)


def _nonce(number: int, index: int) -> bytes:
    return number.to_bytes(8, "big") + index.to_bytes(4, "big")


def default_folder() -> Path:
    """Return where stores go unless told otherwise: this user's temporary folder."""
    return Path(tempfile.gettempdir()) / f"primia-{os.getuid()}"
