"""Messages of the protocol as bytes, and back.

A message is a list of typed parts (`keys.bind`): version, kind, then its fields. The decoder
takes only what the encoder would have written: every message has one encoding. What it allocates
follows from what came, at most some ten times as much, and not from what that claims to hold.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import Part, bind

VERSION = "primia secagg v1"
MAX_MESSAGE_BYTES = 64 << 20
_NEAR = " near"  # after the kind of a message with a membership proof
_MAX_INT_BYTES = 9
_MAX_TEXT_BYTES = 1024  # a site's name names a folder, so it is shorter

Names = tuple[str, ...]
Table = Mapping[str, bytes]


class MembershipProof(NamedTuple):
    """What a client of a sparse graph is told of a list instead of all of it.

    `size`: clients on the list. `place`: the client's own among their sorted names, from 0.
    `root`: of the Merkle tree over the list. `proof`: leads from the client's leaf to the root.
    A message that has one says so in its kind, and ends with it. On a complete graph there is
    none, and nothing of it is encoded.
    """

    size: int
    place: int
    root: bytes
    proof: bytes


@dataclass(frozen=True)
class KeysRequest:
    """Asks for keys of an instance."""

    instance: int


@dataclass(frozen=True)
class KeysReply:
    """`keys`: what `PublicKeys.to_bytes` gives."""

    keys: bytes


@dataclass(frozen=True)
class SharesRequest:
    """Announces U1, the clients whose keys came; asks for sealed shares.

    `threshold`: shares that rebuild a secret. `keys`: of each client in U1; with a membership
    proof, of the receiver and its neighbours.
    """

    instance: int
    threshold: int
    keys: Table
    membership_proof: MembershipProof | None = None


@dataclass(frozen=True)
class SharesReply:
    """`sealed`: by receiver. `commitment`: SHA-256 of the sender's self-mask seed."""

    sealed: Table
    commitment: bytes


@dataclass(frozen=True)
class MaskRequest:
    """Announces U2, whose shares came; asks for the masked vector.

    `sealed`: by sender, the shares for this client. `members`: U2; with a membership proof, the
    receiver and its neighbours in U2.
    """

    instance: int
    members: Names
    sealed: Table
    membership_proof: MembershipProof | None = None


@dataclass(frozen=True)
class SignRequest:
    """Asks to sign a survivor list from which somebody of U2 is missing.

    `survivors`: with a membership proof, the receiver and its neighbours on the list.
    """

    instance: int
    survivors: Names
    membership_proof: MembershipProof | None = None


@dataclass(frozen=True)
class SignReply:
    """An Ed25519 signature, 64 bytes."""

    signature: bytes


@dataclass(frozen=True)
class UnmaskRequest:
    """Announces who is in the sum; asks for shares.

    `survivors`: as in `SignRequest`. `signatures`: by client, on this very list; empty where
    nobody dropped.
    """

    instance: int
    survivors: Names
    signatures: Table = field(default_factory=dict)
    membership_proof: MembershipProof | None = None


@dataclass(frozen=True)
class UnmaskReply:
    """Shares (32 bytes each) of each survivor's self-mask seed, of each dropped one's mask key."""

    seeds: Table
    mask_keys: Table


@dataclass(frozen=True)
class RelayHop:
    """One hop of a sealed relay: at which place of which cycle, from whom to whom.

    `sender`: empty where the model comes in the clear. `receiver`: empty where nobody comes next.
    `keys`: what `HopKey.to_bytes` gives, of each of the two that is another site.
    """

    cycle: int
    position: int
    sender: str
    receiver: str
    keys: Table


@dataclass(frozen=True)
class RelayLineage:
    """What the sites of a relay have signed; see `lineage.ancestors`."""

    links: Table


@dataclass(frozen=True)
class ClientState:
    """A client's side of an instance between two messages; see `ClientInstance`. Secret."""

    instance: int
    phase: int
    degree: int
    sealing: bytes = field(repr=False)
    masking: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    request: bytes
    members: Names
    transcript: bytes
    terms: bytes
    held: Table = field(repr=False)
    signed: Names
    bases: Names
    membership_proof: MembershipProof | None = None


_M = TypeVar(
    "_M",
    ClientState,
    KeysRequest,
    KeysReply,
    SharesRequest,
    SharesReply,
    MaskRequest,
    SignRequest,
    SignReply,
    UnmaskRequest,
    UnmaskReply,
    RelayHop,
    RelayLineage,
)


def encode(message: Any) -> bytes:
    """Return a message's one encoding."""
    near = getattr(message, "membership_proof", None) is not None
    parts: list[Part] = [VERSION, type(message).__name__ + _NEAR * near]
    for one in fields(message):
        parts += _flatten(getattr(message, one.name))
    return bind(*parts)


def encode_each(messages: Mapping[str, Any]) -> dict[str, bytes]:
    """Return encodings by receiver; a message that goes to many is encoded once."""
    distinct = {id(message): message for message in messages.values()}
    raw = {key: encode(message) for key, message in distinct.items()}
    return {name: raw[id(message)] for name, message in messages.items()}


def decode(raw: bytes, kind: type[_M]) -> _M:
    """Return the message that `raw` encodes.

    Raises
    ------
    ProtocolError
        If it is of another kind or version, malformed, or not the encoding `encode` gives.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {len(raw)} bytes; expected at most {MAX_MESSAGE_BYTES}")
    parts = _parts(raw)
    version, name = next(parts, None), next(parts, None)
    near = name == kind.__name__ + _NEAR and hasattr(kind, "membership_proof")
    if version != VERSION or not (near or name == kind.__name__):
        raise _malformed(f"{_shown(version)} {_shown(name)}", f"{VERSION!r} {kind.__name__!r}")
    return kind(**_read_fields(parts, kind, near=near))


def _read_fields(parts: Iterator[Part], kind: type[Any], *, near: bool) -> dict[str, Any]:
    try:
        read = [one for one in fields(kind) if near or one.name != "membership_proof"]
        values = {one.name: _READERS[str(one.type)](parts) for one in read}
    except StopIteration:
        raise _malformed(f"a {kind.__name__} that ends early", "all its fields") from None
    if next(parts, None) is not None:
        raise _malformed(f"a {kind.__name__} with more after its end", "nothing more")
    return values


def _flatten(value: Any) -> list[Part]:
    if value is None or isinstance(value, MembershipProof):
        return list(value or ())
    if isinstance(value, tuple):
        return [len(value), *value]
    if isinstance(value, Mapping):
        pairs = sorted(value.items())
        return [len(pairs), *(part for pair in pairs for part in pair)]
    return [value]


def _parts(raw: bytes) -> Iterator[Part]:
    """Undo `bind`, one part at a time."""
    at = 0
    while at < len(raw):
        kind, end = raw[at : at + 1], at + 9
        length = int.from_bytes(raw[at + 1 : end], "big")
        content = raw[end : end + length]
        if end > len(raw) or len(content) != length:
            raise _malformed(f"a part of {length} bytes at {at} of {len(raw)}", "a whole part")
        yield _part(kind, content)
        at = end + length


def _part(kind: bytes, content: bytes) -> Part:
    if kind == b"b":
        return content
    if kind == b"s" and len(content) <= _MAX_TEXT_BYTES:
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise _malformed("a text that is not UTF-8", "UTF-8") from None
    if kind == b"i" and 0 < len(content) <= _MAX_INT_BYTES:
        value = int.from_bytes(content, "big", signed=True)
        if bind(value)[9:] == content:
            return value
    raise _malformed(
        f"a part of kind {kind!r} with {len(content)} bytes", "bytes, a short text or a number"
    )


def _read(parts: Iterator[Part], kind: type[Any]) -> Any:
    value = next(parts)
    if type(value) is not kind:
        raise _malformed(f"{type(value).__name__} in place of a field", kind.__name__)
    return value


def _read_int(parts: Iterator[Part]) -> int:
    value: int = _read(parts, int)
    if value < 0:
        raise _malformed(f"the number {value}", "0 or more")
    return value


def _read_names(parts: Iterator[Part]) -> Names:
    return tuple(_sorted_names(parts, lambda: None))


def _read_table(parts: Iterator[Part]) -> Table:
    return _sorted_names(parts, lambda: _read(parts, bytes))


def _sorted_names(parts: Iterator[Part], read: Callable[[], Any]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    last = None
    for _ in range(_read_int(parts)):
        name: str = _read(parts, str)
        if last is not None and name <= last:
            raise _malformed(f"the name {name!r:.60} after {last!r:.60}", "sorted, distinct names")
        entries[name], last = read(), name
    return entries


def _read_membership_proof(parts: Iterator[Part]) -> MembershipProof:
    return MembershipProof(
        _read_int(parts), _read_int(parts), _read(parts, bytes), _read(parts, bytes)
    )


_READERS: dict[str, Callable[[Iterator[Part]], Any]] = {
    str(int): _read_int,
    str(bytes): lambda parts: _read(parts, bytes),
    str(str): lambda parts: _read(parts, str),
    str(Names): _read_names,
    str(Table): _read_table,
    str(MembershipProof | None): _read_membership_proof,
}


def _shown(part: Part | None) -> str:
    return repr(part[:60] if isinstance(part, bytes | str) else part)


def _malformed(found: str, expected: str) -> ProtocolError:
    return ProtocolError(
        f"a secure-aggregation message has {found}; expected {expected}; do all parties run the "
        "same version of primia_flwr?"
    )
