"""Randomness of encrypted inference: seeds from the operating system, streams from seeds.

A stream is the key stream of AES-256 in counter mode from block 0, under a key that HKDF-SHA256
derives from the seed and a label. Counting from a fixed start is sound because a key makes one
stream only, and different labels never give the same key. A party that holds the seed expands
its share of dealt randomness itself, and only what a seed cannot give is sent.

Source: NIST SP 800-38A, section 6.5; HKDF, RFC 5869.
"""

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.primitives.keys import bind

SEED_BYTES = 32
_BLOCK = 16  # bytes that the cipher may ask for beyond its output
_ZEROS = bytes(1 << 16)  # enciphered at a time: they stay in a first- or second-level cache


def fresh_seed() -> bytes:
    """Return a new seed, 32 bytes of the operating system's randomness."""
    return os.urandom(SEED_BYTES)


class Stream:
    """The random stream of one purpose; each call goes on where the last one ended.

    Parameters
    ----------
    seed : bytes
        32 bytes that are uniform and secret.
    label : str or int
        What the stream is for; different lists of parts give independent streams.

    Raises
    ------
    ProtocolError
        If the seed does not have 32 bytes.
    """

    def __init__(self, seed: bytes, *label: str | int) -> None:
        if len(seed) != SEED_BYTES:
            raise ProtocolError(f"the seed of a stream has {len(seed)} bytes; expected 32")
        info = bind("primia crypto v1 stream", *label)
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(seed)
        self._cipher = Cipher(AES(key), CTR(bytes(_BLOCK))).encryptor()

    def bytes(self, n: int) -> bytes:
        """Return the next `n` bytes."""
        return self._next(n).tobytes()

    def uint64(self, shape: int | tuple[int, ...]) -> NDArray[np.uint64]:
        """Return the next words, uniform in 0 to 2^64 - 1, little-endian in the stream."""
        shape = (shape,) if isinstance(shape, int) else shape
        if any(side < 0 for side in shape):
            raise ConfigError(f"shape={shape} of random words; expected no negative side")
        words = self._next(8 * math.prod(shape)).view("<u8")
        return words.astype(np.uint64, copy=False).reshape(shape)

    def bits(self, n: int) -> NDArray[np.uint8]:
        """Return `n` uniform bits, uint8 of 0 and 1, lowest bit of a byte first.

        They are those of the next ceil(n / 8) bytes; what is left of the last byte is dropped.
        """
        return np.unpackbits(self._next(-(-n // 8)), count=max(n, 0), bitorder="little")

    def _next(self, n: int) -> NDArray[np.uint8]:
        if n < 0:
            raise ConfigError(f"{n} random bytes were asked for; expected 0 or more")
        output = np.empty(n + _BLOCK, np.uint8)
        zeros, rest = memoryview(_ZEROS), output.data
        for start in range(0, n, len(_ZEROS)):
            self._cipher.update_into(zeros[: n - start], rest[start:])
        return output[:n]
