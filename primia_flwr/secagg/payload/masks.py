"""Masks: key streams of AES-256 in counter mode, added to a vector modulo 2^32 or 2^64.

The stream is that of a fresh counter for each segment of 2^20 words: the first counter block
of segment s is s (12 bytes, big-endian) and 2 (4 bytes, big-endian); words have the size of the
vector's entries and are little-endian on every machine. Counting from a fixed start is sound
because a key makes one mask only.

This is what AES-GCM enciphers zeros to with s as its nonce, and GCM is what computes it: for
GCM OpenSSL uses the wide AES instructions that its plain counter mode leaves idle. The tag is
never asked for: nothing is authenticated here.

Source: NIST SP 800-38A, section 6.5; SP 800-38D, section 6.5; HKDF, RFC 5869.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import bind

Vector = NDArray[np.uint32] | NDArray[np.uint64]
_SEGMENT = 1 << 20  # words under one start of the counter
_BYTES = 1 << 18  # at a time: vector, stream and zeros fit a second-level cache
_BLOCK = 16  # bytes that a cipher may ask for beyond its output


def _aligned(size: int) -> NDArray[np.uint8]:
    """Return zeros that begin at a cache line: faster to encipher and to add."""
    raw = np.zeros(size + 63, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


_ZEROS = _aligned(_BYTES).data.toreadonly()


def mask_key(shared_secret: bytes, info: bytes) -> bytes:
    """Derive the key of one mask (32 bytes) by HKDF-SHA256.

    Parameters
    ----------
    shared_secret : bytes
        X25519 secret of two masking keys, or a random seed; 32 bytes.
    info : bytes
        All that the mask is bound to: whoever was told something else gets another mask.

    Raises
    ------
    ProtocolError
        If the secret does not have 32 bytes.
    """
    if len(shared_secret) != 32:
        raise ProtocolError(f"a mask's secret has {len(shared_secret)} bytes; expected 32")
    context = bind("primia secagg v1 mask", info)
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=context).derive(shared_secret)


def add_mask(vector: Vector, key: bytes, sign: int = 1) -> None:
    """Add a key's mask to a vector in place, or subtract it; see `add_masks`."""
    add_masks(vector, [(key, sign)])


def add_masks(vector: Vector, masks: Sequence[tuple[bytes, int]], *, threads: int = 1) -> None:
    """Add many masks to a vector in place, modulo 2^32 or 2^64, in one walk over it.

    `vector`: uint32 or uint64, one-dimensional, contiguous, writable. `masks`: key (32 bytes), and
    1 to add its mask or -1 to subtract it. `threads`: work on up to that many parts, of 2^20
    entries or more, at a time; the result is the same.

    Raises
    ------
    ProtocolError
        If the vector, a key, a sign or `threads` is not as described.
    """
    _check(vector, masks, threads)
    segments = -(-vector.size // _SEGMENT)
    each = max(1, -(-segments // threads))
    firsts = range(0, segments, each)
    parts = [vector[first * _SEGMENT : (first + each) * _SEGMENT] for first in firsts]
    if len(parts) <= 1:
        _add(vector, masks, 0)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(_add, parts, repeat(masks), firsts))


def _add(part: Vector, masks: Sequence[tuple[bytes, int]], first: int) -> None:
    """Add masks to a part of a vector that begins with segment `first`."""
    buffer, size = _aligned(_BYTES + _BLOCK), part.itemsize
    output, words = buffer.data, buffer[:_BYTES].view(f"<u{size}")
    for segment, start in enumerate(range(0, part.size, _SEGMENT), first):
        nonce = GCM(segment.to_bytes(12, "big"))
        streams = [
            (Cipher(AES(key), nonce).encryptor(), np.add if sign > 0 else np.subtract)
            for key, sign in masks
        ]
        for at in range(start, min(start + _SEGMENT, part.size), words.size):
            chunk = part[at : at + words.size]
            for stream, combine in streams:
                stream.update_into(_ZEROS[: size * chunk.size], output)
                combine(chunk, words[: chunk.size], out=chunk)


def _check(vector: Vector, masks: Sequence[tuple[bytes, int]], threads: int) -> None:
    flags = vector.flags
    if (
        vector.dtype not in (np.uint32, np.uint64)
        or vector.ndim != 1
        or not (flags.c_contiguous & flags.writeable)
    ):
        raise ProtocolError(
            f"the vector to mask is {vector.dtype} {vector.shape}; expected a writable, "
            "contiguous uint32 or uint64 vector of one dimension"
        )
    for key, sign in masks:
        if len(key) != 32:
            raise ProtocolError(f"a mask key has {len(key)} bytes; expected 32")
        if sign not in (1, -1):
            raise ProtocolError(f"sign={sign} of a mask; expected 1 or -1")
    if threads < 1:
        raise ProtocolError(f"threads={threads}; expected at least 1")
