"""Where the randomness of noise and sampling comes from.

AES-128 in counter mode as a bit generator of numpy, under a key that the operating system draws
and nobody keeps: as fast as numpy's own generators with the processor's AES instructions, and
unlike them unpredictable to whoever sees a part of the stream. Each call of a sampler takes a
fresh key, so nothing repeats between calls, processes or machines, forks included.

What augments a drawn image may not depend on which other units were drawn, or one unit more would
move what all of them contribute. So a view's seed is a keyed function of the step, its image and
its number among the unit's views (`view_seeds`), under a key that this process draws and nobody
sees: never a number that its place gives, and nothing that the experiment's seed says.

A generator can be passed to every sampler. That is for tests; no configuration reaches it, and
a seed that somebody knows is no privacy.

Source: NIST SP 800-38A, section 6.5; the counter is little-endian.
"""

import hashlib
import os
import secrets
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from randomgen import AESCounter

_KEY_BYTES = 16


def fresh_generator() -> np.random.Generator:
    """Return a generator whose stream is AES-128 in counter mode under a new random key."""
    return keyed_generator(os.urandom(_KEY_BYTES))


def fresh_seed() -> int:
    """Return a seed in [0, 2^63) from the operating system."""
    return secrets.randbits(63)


def view_seeds(step: int, files: Sequence[str], views: int) -> list[int]:
    """Return a seed in [0, 2^63) for each view of a step, as good as independent of all others.

    Parameters
    ----------
    step : int
        Of the run.
    files : sequence of str
        The image of each view; the views of a unit are neighbours.
    views : int
        Of a unit.
    """
    names = (repr((step, file, at % views)) for at, file in enumerate(files))
    return [_keyed(name.encode("utf-8", "surrogatepass")) for name in names]


def _keyed(name: bytes) -> int:
    digest = hashlib.blake2b(name, key=_process_key(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@lru_cache(maxsize=1)
def _process_key() -> bytes:
    return os.urandom(32)


def keyed_generator(key: bytes) -> np.random.Generator:
    """Return the generator of a key of 16 bytes: always the same stream, for tests."""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes; expected {_KEY_BYTES}")
    return np.random.Generator(AESCounter(key=int.from_bytes(key, "little")))
