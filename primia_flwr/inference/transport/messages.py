"""What the three parties say to each other around the computation: typed, strict JSON.

A message is refused if a field is missing, unknown, or of another type.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, TypeVar, get_type_hints

from primia_flwr.errors import ProtocolError
from primia_flwr.storage.reading import parse_json

VERSION = 2
_PROTOCOLS = ("fss", "crypten")
NONCE_BYTES = 32
MAX_BATCHES = 10**6
OPEN_ENDED = 0  # batches of a session that lasts until a party ends it
MAX_JSON_BYTES = 1 << 20

_T = TypeVar("_T")


class Kind(IntEnum):
    """The first byte of a frame; 0 is an error message."""

    HELLO = 1  # data owner to model owner
    OFFER = 2  # and back
    WEIGHTS = 3  # model owner to data owner: masked weights of one layer
    BEGIN = 4  # data owner to model owner: the number of the block for the next batch
    ONLINE = 5  # between the two, during a batch
    JOIN = 6  # either to the crypto provider: a session
    JOINED = 7  # and back
    WANT = 8  # either to the crypto provider: the number of a block
    PART = 9  # and back
    GOODBYE = 10  # the session is over
    ALIVE = 11  # who connected still waits; and back
    REFUSED = 12  # model owner to data owner: no batch now, the session goes on


@dataclass(frozen=True)
class Hello:
    """The data owner wants `batches` batches of `batch` images classified.

    `batches` 0: as they come, `OPEN_ENDED`. `nonce`: 32 fresh bytes, hexadecimal. `audit`: scores
    only where no number left its ring.
    """

    version: int
    protocol: str
    batch: int
    batches: int
    nonce: str
    audit: bool = False

    def __post_init__(self) -> None:
        _check(self.version == VERSION, f"version={self.version}", str(VERSION))
        _check(1 <= self.batch <= 1024, f"batch={self.batch}", "1 to 1024")
        _check(0 <= self.batches <= MAX_BATCHES, f"batches={self.batches}", "0 to 1,000,000")
        _check_hex("nonce", self.nonce)
        _check_protocol(self.protocol)
        _check(not self.audit or self.protocol == "fss", "audit", "it with protocol fss only")

    @property
    def most_batches(self) -> int:
        """How many batches the session may have."""
        return MAX_BATCHES if self.batches == OPEN_ENDED else self.batches


@dataclass(frozen=True)
class Offer:
    """The model owner's public facts.

    `card`: of the model, what a user of it must know. `plan`: SHA-256 of the plan that both
    lower from it. `model`: SHA-256 of the weights. `ahead`: how many blocks may wait at the model
    owner. `calibrated`: on how many images it was compared with the network in the clear, and the
    bounds of what is compared were measured; 0: never. `score_limit`: below which scores are in
    magnitude, by the same images; 0: not known.
    """

    card: dict[str, Any]
    compare_bits: int
    plan: str
    model: str
    nonce: str
    ahead: int
    calibrated: int
    score_limit: float = 0.0

    def __post_init__(self) -> None:
        _check(self.ahead >= 1, f"ahead={self.ahead}", "1 or more")
        _check(self.calibrated >= 0, f"calibrated={self.calibrated}", "0 or more")
        finite = math.isfinite(self.score_limit) and self.score_limit >= 0
        _check(finite, f"score_limit={self.score_limit}", "0 or more")
        _check(8 <= self.compare_bits <= 64, f"compare_bits={self.compare_bits}", "8 to 64")
        for name in ("plan", "model", "nonce"):
            _check_hex(name, getattr(self, name))


@dataclass(frozen=True)
class Join:
    """A party comes to the crypto provider for a session with a peer.

    `peer`: SHA-256 fingerprint of the other's certificate, as it was seen on the line between
    the two. With `protocol` "fss" what the plan needs follows in a frame of its own.
    """

    session: str
    peer: str
    protocol: str

    def __post_init__(self) -> None:
        _check_hex("session", self.session)
        _check_protocol(self.protocol)


def session_of(hello: Hello, offer: Offer, data_owner: str, model_owner: str) -> bytes:
    """Return the session, 32 bytes: of both nonces and both certificates' fingerprints."""
    facts = "\n".join(
        ("primia crypto v1 session", hello.nonce, offer.nonce, data_owner, model_owner, offer.plan)
    )
    return hashlib.sha256(facts.encode()).digest()


def pack(message: Any) -> bytes:
    """Return a message as JSON."""
    return json.dumps(asdict(message), sort_keys=True, separators=(",", ":")).encode()


def unpack(raw: bytes | bytearray | memoryview, kind: type[_T]) -> _T:
    """Undo `pack`.

    Raises
    ------
    ProtocolError
        If it is not such a message.
    """
    try:
        values = parse_json(bytes(raw))
    except ValueError:
        raise _refusal(kind, "something that is not JSON", "JSON") from None
    hints = get_type_hints(kind)
    if not isinstance(values, Mapping) or set(values) != set(hints):
        raise _refusal(kind, "other fields", ", ".join(sorted(hints)))
    for name, value in values.items():
        wanted = dict if hints[name] == dict[str, Any] else hints[name]
        if type(value) is not wanted:
            raise _refusal(kind, f"{name}={value!r:.60}", wanted.__name__)
    return kind(**values)


def _check(good: bool, found: str, expected: str) -> None:
    if not good:
        raise ProtocolError(
            f"a message has {found:.80}; expected {expected}; do all parties run the same version "
            "of primia_flwr?"
        )


def _check_protocol(value: str) -> None:
    _check(value in _PROTOCOLS, f"protocol={value!r}", " or ".join(_PROTOCOLS))


def _check_hex(name: str, value: str) -> None:
    _check(bool(re.fullmatch("[0-9a-f]{64}", value)), f"{name}={value!r}", "64 hexadecimal digits")


def _refusal(kind: type[Any], found: str, expected: str) -> ProtocolError:
    return ProtocolError(
        f"a message that should be {kind.__name__} has {found}; expected {expected}; do all "
        "parties run the same version of primia_flwr?"
    )
