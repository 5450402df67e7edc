"""Numbers cut into three digits, and shared tables that tell how two digits lie to each other.

The table of a digit alpha of w bits is a vector of 2^w bits, all 0 but the one at alpha. It is
XOR-shared: one party's share is uniform, from its seed, the other's is that with one bit turned.
For a public digit y each party has, as a share, the bit at y, 1{alpha = y}, and the parity of those
before it, 1{alpha < y}. Both are linear, so nothing is sent. A table serves one comparison.

The top digit has the sign bit, and its table is read as a circle: `read_top`.

Source: Ishai, Kushilevitz, Meldgaard, Orlandi, Paskin-Cherniavsky 2013, "On the Power of Correlated
Randomness in Secure Computation", for tables that are dealt; parities of a one-hot vector: Storrier
et al. 2023 (Grotto).
"""

from itertools import pairwise

import numpy as np

from primia_flwr.inference.fss.prg import Words

_WIDEST = 9  # bits of the digits if all have tables
_ABOVE_A_TREE = 8  # bits of the others if the low one has a tree: 9 take as many bytes, and time
_TOP = 6  # bits of the top digit at least: its table takes a word anyway
_ONE = np.uint64(1)
_IN_WORD = np.uint64(63)


def widths(bits: int) -> tuple[int, int, int]:
    """Return the bits of the top, the middle and the low digit of a ring of 8 to 64 bits."""
    if has_tree(bits):
        return _ABOVE_A_TREE, _ABOVE_A_TREE, bits - 2 * _ABOVE_A_TREE
    top = max(_TOP, -(-bits // 3))
    middle = -(-(bits - top) // 2)
    return top, middle, bits - top - middle


def has_tree(bits: int) -> bool:
    """Say whether the low digit is too wide for a table, and takes a point function."""
    return bits > 3 * _WIDEST


def guard(bits: int) -> int:
    """Return how far above -2^(n-1) the numbers begin for which a comparison is always right."""
    return 1 << (bits - widths(bits)[0])


def split(numbers: Words, bits: int) -> tuple[Words, Words, Words]:
    """Return the three digits of each number's low `bits` bits, the top one first."""
    top, middle, low = widths(bits)
    return (
        numbers >> np.uint64(middle + low) & _mask(top),
        numbers >> np.uint64(low) & _mask(middle),
        numbers & _mask(low),
    )


def rows(bits: int) -> list[slice]:
    """Return which words of a comparison's tables are whose, the top digit's first."""
    ends = [0]
    for width in widths(bits)[: 2 if has_tree(bits) else 3]:
        ends.append(ends[-1] + (1 << max(width - 6, 0)))
    return [slice(start, end) for start, end in pairwise(ends)]


def mark(table: Words, digits: Words) -> None:
    """Turn the bit of each digit in a table, (words, count)."""
    at, bit = digits >> np.uint64(6), _ONE << (digits & _IN_WORD)
    for number, word in enumerate(table):
        word ^= bit * (at == np.uint64(number))


def read(table: Words, digits: Words) -> tuple[Words, Words]:
    """Return words with the parity of a table's bits before each digit, and the bits there.

    Parameters
    ----------
    table : ndarray
        (words, count) uint64.
    digits : ndarray
        (count,) uint64, below 64 words.
    """
    passed = np.zeros_like(digits)
    while len(table) > 1:
        low, high = np.split(table, 2)
        right = _right(table, digits)
        passed ^= np.bitwise_xor.reduce(low, axis=0) & right
        table = low ^ (low ^ high) & right
    place = digits & _IN_WORD
    return table[0] & ((_ONE << place) - _ONE) ^ passed, table[0] >> place & _ONE


def read_top(table: Words, digits: Words, width: int) -> tuple[Words, Words]:
    """Return words with the parity of 1{0 < y - alpha mod 2^w <= 2^(w-1)}, and 1{alpha = y}.

    Lay one half of the circle upon the other. Of the 2^(w-1) points before y, those in y's own
    half lie before its place there, the others in the other half from its place on. So count in
    the sum of both halves what lies before the place, and all of the other half once more.
    """
    half = np.uint64(width - 1)
    if len(table) > 1:
        low, high = np.split(table, 2)
    else:
        low, high = table & _mask(1 << int(half)), table >> (_ONE << half) & _mask(1 << int(half))
    both, place = low ^ high, digits & _mask(int(half))
    own = low ^ both & np.negative(digits >> half & _ONE)
    other = np.bitwise_xor.reduce(own ^ both, axis=0)
    while len(own) > 1:
        left, after = np.split(own, 2)
        own = left ^ (left ^ after) & _right(own, place)
    return read(both, place)[0] ^ other, own[0] >> (place & _IN_WORD) & _ONE


def parity(words: Words) -> Words:
    """Return the parity of each word's bits, uint8 of 0 and 1."""
    return np.bitwise_count(words) & np.uint8(1)


def _right(table: Words, digits: Words) -> Words:
    """Return words with all bits 1 where a digit is in the upper half of its table."""
    right: Words = np.negative(digits >> np.uint64(5 + len(table).bit_length() - 1) & _ONE)
    return right


def _mask(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)
