"""Randomness that is the same on every machine: a function of named parts, through SHA-256."""

import hashlib
from collections.abc import Iterable

import numpy as np


def generator(*parts: object) -> np.random.Generator:
    """Return a generator whose stream depends on nothing but `parts`."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(parts)[:16], "big")))


def shuffled(names: Iterable[str], *parts: object) -> list[str]:
    """Order `names` by a keyed hash: independent of their order, and of numpy's version."""
    return sorted(names, key=lambda name: (_digest((*parts, name)), name))


def _digest(parts: tuple[object, ...]) -> bytes:
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
