"""A shared number times a bit that nobody knows, from five masked bits of a comparison.

A comparison gives five bits, each XOR-shared and opened under a mask bit of its own: A, E of the
top digit, G, F of the middle one, L of the low one. The bit wanted is b = A + E (G + F L), and A
and E, G and F are never both 1. Let a, e, g, f, l be what is opened: A = a xor sa, and so on, with
uniform masks that nobody knows. With q = g xor f l and t = sg xor sf sl xor f sl xor l sf,

    G + F L = (g xor sg) xor (f xor sf)(l xor sl) = q xor t,
    b = a + (1-2a) sa + (e + (1-2e) se)(q + (1-2q) t)
      = a + e q + (1-2a) sa + (1-2e) q se + e (1-2q) t + (1-2e)(1-2q) se t.

t is one of four bits, by f and l. So b is linear, with public factors, in ten bits that the dealer
knows: sa, se, the four t and the four se t. For each such bit v it deals additive shares of v and
of v r, 8 bytes each. With the public y = x + r mod 2^64, x v = y v - r v. So each party computes
its share of x b alone.

A pair of shares is uniform: one party's is from its seed, the other's the difference. Which party's
is decided by `pairs_to_data_owner`, so that both are sent about as much.

Source: Beaver 1991; Patra, Schneider, Suresh, Yalame 2021 (ABY2.0), section 3, for products of
several masked values in one opening.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from primia_flwr.inference.fss.prg import Words

Bits = NDArray[np.uint8]
MASKS = 5  # opened bits of a comparison: A, E, G, F, L
PAIRS = 10  # sa, se, four t, four se t
PAIR_BYTES = 16
_ONE = np.uint64(1)
_TWO = np.uint64(2)


def pairs_to_data_owner(table_words: int) -> int:
    """Return how many of the pairs the data owner is sent, besides the tables."""
    return max(0, (PAIR_BYTES * PAIRS - 8 * table_words) // (2 * PAIR_BYTES))


def values(masks: Bits, r: Words) -> Words:
    """Return the ten bits and their products with r, (10, 2, count).

    Parameters
    ----------
    masks : ndarray
        (5, count) uint8 of 0 and 1: sa, se, sg, sf, sl.
    r : ndarray
        (count,) uint64.
    """
    sa, se, sg, sf, sl = masks
    both = sg ^ sf & sl
    turns = [both, both ^ sl, both ^ sf, both ^ sl ^ sf]  # f + 2 l
    bits = np.stack([sa, se, *turns, *(se & turn for turn in turns)]).astype(np.uint64)
    return np.stack([bits, bits * r], axis=1)


def product(pairs: Sequence[Words], opened: Bits, y: Words, share: Words) -> Words:
    """Return this party's share of x b.

    `pairs`: this party's shares of the ten pairs, (2, count) each. `opened`: (5, count) uint8 of 0
    and 1: a, e, g, f, l. `y`, `share`: (count,) uint64: x + r, and this party's share of x.
    """
    a, e, g, f, low = opened.astype(np.uint64)
    q = g ^ f & low
    by_f, by_l = np.negative(f), np.negative(low)
    turn, both = (_one_of(pairs[at : at + 4], by_f, by_l) for at in (2, 6))
    one_e, one_q = _ONE - _TWO * e, _ONE - _TWO * q
    total: Words = (_ONE - _TWO * a) * pairs[0]
    total += one_e * q * pairs[1]
    total += e * one_q * turn
    total += one_e * one_q * both
    result: Words = (a + e * q) * share + y * total[0] - total[1]
    return result


def _one_of(four: Sequence[Words], by_f: Words, by_l: Words) -> Words:
    """Return the f + 2 l-th; `by_f` and `by_l` have all bits 1 where f and l are 1."""
    low = four[0] ^ (four[0] ^ four[1]) & by_f
    high = four[2] ^ (four[2] ^ four[3]) & by_f
    chosen: Words = low ^ (low ^ high) & by_l
    return chosen
