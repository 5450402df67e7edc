"""A client's instances between two messages: sealed on disk, in order, and gone when they end.

A SuperNode starts a new process for each message, so an instance has to rest somewhere. It is
sealed under a key that follows from the site's identity key, for this run and instance.
"""

import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import bind
from primia_flwr.secagg.protocol.client import ClientInstance, Phase
from primia_flwr.secagg.protocol.parties import Member
from primia_flwr.secagg.state.round_numbers import RoundNumbers
from primia_flwr.storage.atomic import PRIVATE, write_atomic
from primia_flwr.storage.reading import read_bytes

_NONCE_BYTES = 12
_LONGEST_NUMBER = 20
_NUMBER = re.compile("[0-9]{1,20}")
_KEPT = 2  # the instance of this round and that of the next


class Vault:
    """The instances of one run at one site.

    Parameters
    ----------
    folder : Path
        Private to the site and the run; made if missing.
    member : Member
        The site in this run.
    degree : int, optional
        Of the sparse graph.
    """

    def __init__(self, folder: Path, member: Member, *, degree: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self._member, self._degree = folder, member, degree
        self.rounds = RoundNumbers(folder / "rounds.json")
        self._context = bind("primia secagg v1 vault", member.session.run, member.name)
        hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=self._context)
        self._cipher = ChaCha20Poly1305(hkdf.derive(member.identity.private_bytes_raw()))

    def begin(self, number: int) -> ClientInstance:
        """Begin an instance whose number is above all that this site has seen in the run.

        Raises
        ------
        ProtocolError
            If it is not: an instance never repeats.
        """
        last = self._last()
        if number <= last:
            raise ProtocolError(
                f"{self._member.name} refuses to begin instance {number}; expected one above "
                f"{last}, because no instance repeats"
            )
        self._write("last", str(number).encode())
        for old in self._stored()[: 1 - _KEPT]:
            self._path(old).unlink(missing_ok=True)
        instance = ClientInstance(self._member, number, degree=self._degree)
        self.save(instance)
        return instance

    def load(self, number: int) -> ClientInstance:
        """Return an instance as it was saved.

        Raises
        ------
        ProtocolError
            If the site does not have it (any more), or it was altered.
        """
        try:
            raw = read_bytes(self._path(number))
        except (OSError, ValueError):
            raise ProtocolError(
                f"{self._member.name} knows nothing of instance {number}; expected one that it "
                "began and that has not ended; it takes part again from the next setup on"
            ) from None
        return ClientInstance.from_bytes(self._member, self._opened(number, raw))

    def _opened(self, number: int, raw: bytes) -> bytes:
        nonce, sealed = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, sealed, bind(self._context, number))
        except (InvalidTag, ValueError):  # the latter: too short for a nonce
            raise ProtocolError(
                f"{self._path(number)} was altered, or sealed under another identity key"
            ) from None

    def save(self, instance: ClientInstance) -> None:
        """Keep an instance for the next message; a spent one is deleted instead."""
        if instance.phase is Phase.SPENT:
            self._path(instance.number).unlink(missing_ok=True)
            return
        nonce = secrets.token_bytes(_NONCE_BYTES)
        context = bind(self._context, instance.number)
        sealed = nonce + self._cipher.encrypt(nonce, instance.to_bytes(), context)
        self._write(self._path(instance.number).name, sealed)

    def _stored(self) -> list[int]:
        names = (path.stem.partition("-")[2] for path in self.folder.glob("instance-*.sealed"))
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name))

    def _last(self) -> int:
        path = self.folder / "last"
        try:
            text = read_bytes(path, at_most=_LONGEST_NUMBER).decode("ascii")
            if not _NUMBER.fullmatch(text):
                raise ValueError
            return int(text)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            raise ProtocolError(
                f"{path} holds no number; expected that of the last instance: without it "
                f"{self._member.name} cannot know which are new, so it begins none; start a new "
                "run"
            ) from None

    def _path(self, number: int) -> Path:
        return self.folder / f"instance-{number}.sealed"

    def _write(self, name: str, content: bytes) -> None:
        write_atomic(self.folder / name, content, mode=PRIVATE)
