"""What a party's seed gives for comparisons: it is never sent. Each has a stream of its own."""

import numpy as np

from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss.choice import MASKS
from primia_flwr.inference.fss.keys import Bits, Sizes
from primia_flwr.inference.fss.prg import KEY_BYTES, Words

_PURPOSE = "comparison"


def cipher_key_of(seed: bytes) -> bytes:
    """Return the key of the trees' hash, 16 bytes: the dealer takes party 0's."""
    return Stream(seed, _PURPOSE, "cipher key").bytes(KEY_BYTES)


def roots_of(seed: bytes, count: int) -> Words:
    """Return the roots of trees, (count, 2) uint64."""
    return Stream(seed, _PURPOSE, "roots").uint64((count, 2))


def masks_of(seed: bytes, count: int) -> Bits:
    """Return shares of the five mask bits, packed: (5, ceil(count / 8)) uint8."""
    shape = MASKS, -(-count // 8)
    raw = Stream(seed, _PURPOSE, "masks").bytes(shape[0] * shape[1])
    return np.frombuffer(raw, np.uint8).reshape(shape)


def tables_of(seed: bytes, sizes: Sizes) -> Words:
    """Return a share of the digits' tables, (words, count) uint64."""
    return Stream(seed, _PURPOSE, "tables").uint64((sizes.table_words, sizes.count))


def pairs_of(seed: bytes, pairs: int, count: int) -> Words:
    """Return shares of the pairs that the other party is sent, (pairs, 2, count) uint64."""
    return Stream(seed, _PURPOSE, "pairs").uint64((pairs, 2, count))
