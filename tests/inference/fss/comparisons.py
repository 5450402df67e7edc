"""Both parties of comparisons in one process."""

import numpy as np

from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss import compare, digits
from primia_flwr.inference.fss.dealing import deal
from primia_flwr.inference.fss.keys import CompareKeys

SEEDS = bytes([1]) * 32, bytes([2]) * 32


def keys_of(
    r: np.ndarray, bits: int, seeds: tuple[bytes, bytes] = SEEDS
) -> tuple[CompareKeys, CompareKeys]:
    dealt = deal(r, bits, seeds)
    sent = [b"".join(dealt.sent(party)) for party in (0, 1)]
    one, other = (compare.expand(p, seeds[p], sent[p], bits, r.size) for p in (0, 1))
    return one, other


def opened_bits(keys: tuple[CompareKeys, CompareKeys], y: np.ndarray, threads: int) -> np.ndarray:
    shares = [compare.evaluate(one, y, threads) for one in keys]
    assert all(share.dtype == np.uint8 for share in shares)
    return np.unpackbits(shares[0] ^ shares[1], axis=1, count=y.size, bitorder="little")


def larger(x: np.ndarray, r: np.ndarray, bits: int, threads: int = 1) -> np.ndarray:
    """max(x, 0) as both parties find it, int64; x: int64, in shares that are random."""
    keys, words = keys_of(r, bits), x.astype(np.uint64)
    y = words + r
    share = Stream(bytes(32), "x").uint64(x.size)
    opened = opened_bits(keys, y, threads)
    found = [
        compare.relu(one, y, opened, part, threads)
        for one, part in zip(keys, (share, words - share), strict=True)
    ]
    return (found[0] + found[1]).view(np.int64)


def always_right(x: np.ndarray, bits: int) -> np.ndarray:
    """Whether numbers are in the ring of n bits without its guard."""
    half = 1 << (bits - 1)
    return (x >= -half + digits.guard(bits)) & (x < half)


def computed(x: int, r: int, bits: int) -> int:
    """Return the bit that stands for 1{x >= 0}, by the three digits, in plain integers."""
    widths = digits.widths(bits)
    y, low = x + r, widths[1] + widths[2]
    below = y % 2**low - r % 2**low < 0  # the borrow
    d = ((y >> low) - (r >> low)) % 2 ** widths[0]
    return int(0 < d <= 2 ** (widths[0] - 1) or (d == 0 and not below))
