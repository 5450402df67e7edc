"""Sealing of a message from one client to another, so that the server can carry it unread.

Source: HKDF, RFC 5869; ChaCha20-Poly1305, RFC 8439.
"""

import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import bind

_SALT_BYTES = 16
_NONCE = bytes(12)


def seal(
    shared_secret: bytes,
    message: bytes,
    *,
    sender: str,
    receiver: str,
    associated: bytes,
    rng: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """Encrypt and authenticate a message; the result is 32 bytes longer.

    The nonce is always zero. That is sound because a key encrypts one message only: it is
    derived from a pair's X25519 secret of one instance, the direction, and a random salt of
    128 bits that goes before the ciphertext. Sealing twice, say after a retry, takes two keys.

    Parameters
    ----------
    shared_secret : bytes
        X25519 secret of the two sealing keys.
    message : bytes
        What only the receiver may read.
    sender, receiver : str
        The direction: what A sealed for B does not open as sealed by B for A.
    associated : bytes
        What both must agree on, such as instance, keys of all clients and threshold.
    rng : callable
        Returns that many bytes from a cryptographic source.
    """
    salt = rng(_SALT_BYTES)
    context = bind("primia secagg v1 seal", sender, receiver, associated)
    return salt + _cipher(shared_secret, salt, context).encrypt(_NONCE, message, context)


def open_sealed(
    shared_secret: bytes, sealed: bytes, *, sender: str, receiver: str, associated: bytes
) -> bytes:
    """Return the message that `seal` sealed under the same secret, direction and context.

    Raises
    ------
    ProtocolError
        If anything of it differs, without saying what.
    """
    salt, ciphertext = sealed[:_SALT_BYTES], sealed[_SALT_BYTES:]
    context = bind("primia secagg v1 seal", sender, receiver, associated)
    try:
        return _cipher(shared_secret, salt, context).decrypt(_NONCE, ciphertext, context)
    except InvalidTag:
        raise ProtocolError(
            f"the sealed message from {sender!r} to {receiver!r} does not open; expected it "
            "whole, unaltered, and sealed for this instance"
        ) from None


def _cipher(shared_secret: bytes, salt: bytes, context: bytes) -> ChaCha20Poly1305:
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=salt, info=context)
    return ChaCha20Poly1305(hkdf.derive(shared_secret))
