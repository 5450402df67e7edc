"""Where the randomness of noise and sampling comes from.

AES-128 in counter mode as a bit generator of numpy, under a key that the operating system draws
and nobody keeps: as fast as numpy's own generators with the processor's AES instructions, and
unlike them unpredictable to whoever sees a part of the stream. Each call of a sampler takes a
fresh key, so nothing repeats between calls, processes or machines, forks included.

What augments a drawn image is a part of the sampling, too: it may not depend on which other units
were drawn, so each view has a seed of its own (`fresh_seeds`), never one that its place gives.

A generator can be passed to every sampler. That is for tests; no configuration reaches it, and
a seed that somebody knows is no privacy.

Source: NIST SP 800-38A, section 6.5; the counter is little-endian.
"""

import os
import secrets

import numpy as np
from randomgen import AESCounter

KEY_BYTES = 16


def fresh_generator() -> np.random.Generator:
    """Return a generator whose stream is AES-128 in counter mode under a new random key."""
    return keyed_generator(os.urandom(KEY_BYTES))


def fresh_seeds(count: int) -> list[int]:
    """Return independent seeds in [0, 2^63) from the operating system, one for each view."""
    return [secrets.randbits(63) for _ in range(count)]


def keyed_generator(key: bytes) -> np.random.Generator:
    """Return the generator of a key of 16 bytes: always the same stream, for tests."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes; expected {KEY_BYTES}")
    return np.random.Generator(AESCounter(key=int.from_bytes(key, "little")))
