"""Keys of one instance, and what binds bytes to a purpose: signatures and digests.

An instance is one run of the protocol, with key pairs of its own: one for sealing shares, one
for masking. Their public halves are signed by the site's long-term Ed25519 identity.

Source: X25519, RFC 7748; Ed25519, RFC 8032.
"""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from primia_flwr.errors import ProtocolError

KEY_BYTES = 32
_SIGNATURE_BYTES = 64
Part = bytes | str | int
_PURPOSE = "primia secagg v1 keys"


def bind(*parts: Part) -> bytes:
    """Encode a list of parts; different lists never give the same bytes.

    Each part is a letter for its type, its length (8 bytes, big-endian) and its content: the
    bytes, UTF-8 (with lone surrogates), or the shortest two's complement, big-endian.

    Raises
    ------
    TypeError
        If a part is of another type, `bool` included.
    """
    return b"".join(_typed(part) for part in parts)


def _typed(part: Part) -> bytes:
    if isinstance(part, bytes):
        kind, content = b"b", part
    elif isinstance(part, str):
        kind, content = b"s", part.encode("utf-8", "surrogatepass")
    elif isinstance(part, int) and not isinstance(part, bool):
        length = part.bit_length() // 8 + 1
        kind, content = b"i", part.to_bytes(length, "big", signed=True)
    else:
        raise TypeError(f"{type(part).__name__} cannot be bound; expected bytes, str or int")
    return kind + len(content).to_bytes(8, "big") + content


def digest(*parts: Part) -> bytes:
    """Return the SHA-256 of the bound parts, 32 bytes; the first part names the purpose."""
    return hashlib.sha256(bind(*parts)).digest()


def sign(identity: Ed25519PrivateKey, purpose: str, *parts: Part) -> bytes:
    """Sign parts for a purpose; a signature (64 bytes) for one purpose is none for another."""
    return identity.sign(bind(purpose, *parts))


def verify(identity: Ed25519PublicKey, signature: bytes, purpose: str, *parts: Part) -> None:
    """Check a signature that `sign` made.

    Raises
    ------
    ProtocolError
        If it is not that identity's, or for other parts or another purpose.
    """
    try:
        identity.verify(signature, bind(purpose, *parts))
    except InvalidSignature:
        raise ProtocolError(
            f"the signature for {purpose!r} does not verify; expected one by the site's "
            "identity key in the roster over exactly these values"
        ) from None


class KeyPair:
    """An X25519 key pair for one purpose in one instance. `public`: 32 bytes, raw."""

    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"

    @classmethod
    def generate(cls) -> "KeyPair":
        """Make a new pair from the operating system's randomness."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_private(cls, private: bytes) -> "KeyPair":
        """Return the pair of a raw private key (32 bytes), such as one rebuilt from shares.

        Raises
        ------
        ProtocolError
            If it has another length.
        """
        return cls(X25519PrivateKey.from_private_bytes(_key(private, "private")))

    def private_bytes(self) -> bytes:
        """Return the raw private key, 32 bytes: to be shared, never stored or logged."""
        return self._private.private_bytes_raw()

    def agree(self, peer: bytes) -> bytes:
        """Return the raw X25519 secret (32 bytes) shared with a peer's raw public key.

        It is not uniform: derive keys from it.

        Raises
        ------
        ProtocolError
            If the key has another length or a low order: the secret would be known to all.
        """
        public = X25519PublicKey.from_public_bytes(_key(peer, "public"))
        try:
            return self._private.exchange(public)
        except ValueError:
            raise ProtocolError(
                f"public key {peer.hex()} has a low order; expected one made by X25519: "
                "with this one anybody knows the shared secret"
            ) from None


def _key(raw: bytes, kind: str) -> bytes:
    if len(raw) != KEY_BYTES:
        raise ProtocolError(f"an X25519 {kind} key has {len(raw)} bytes; expected {KEY_BYTES}")
    return raw


@dataclass(frozen=True)
class PublicKeys:
    """What a client advertises for one instance: raw X25519 keys (32 bytes) and a signature."""

    sealing: bytes
    masking: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return both keys and the signature, 128 bytes."""
        return self.sealing + self.masking + self.signature

    @classmethod
    def from_bytes(cls, raw: bytes) -> "PublicKeys":
        """Undo `to_bytes`; says nothing about the signature.

        Raises
        ------
        ProtocolError
            If `raw` has another length.
        """
        if len(raw) != 2 * KEY_BYTES + _SIGNATURE_BYTES:
            raise ProtocolError(f"public keys of {len(raw)} bytes; expected 128")
        return cls(raw[:KEY_BYTES], raw[KEY_BYTES : 2 * KEY_BYTES], raw[2 * KEY_BYTES :])

    def verify(self, identity: Ed25519PublicKey, *, run: Part, instance: int, sender: str) -> None:
        """Check that the sender made these keys for this instance of this run.

        Raises
        ------
        ProtocolError
            If a key has a wrong length, both are the same, or the signature does not verify.
        """
        _key(self.sealing, "public")
        _key(self.masking, "public")
        if self.sealing == self.masking:
            raise ProtocolError(
                f"the sealing and masking keys of {sender!r} are the same; expected one key "
                "for each purpose"
            )
        signed = (run, instance, sender, self.sealing, self.masking)
        verify(identity, self.signature, _PURPOSE, *signed)


@dataclass(frozen=True)
class InstanceKeys:
    """A client's key pairs for one instance; forget them when it ends."""

    sealing: KeyPair
    masking: KeyPair

    @classmethod
    def generate(cls) -> "InstanceKeys":
        """Make both pairs from the operating system's randomness."""
        return cls(KeyPair.generate(), KeyPair.generate())

    def advertise(
        self, identity: Ed25519PrivateKey, *, run: Part, instance: int, sender: str
    ) -> PublicKeys:
        """Return the public keys, signed by the site's identity for this instance."""
        sealing, masking = self.sealing.public, self.masking.public
        signature = sign(identity, _PURPOSE, run, instance, sender, sealing, masking)
        return PublicKeys(sealing, masking, signature)
