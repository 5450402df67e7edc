"""ReLU of secret-shared numbers in a ring of n bits: digits, tables, and one opening of five bits.

The dealer picks r, uniform in 0 to 2^64 - 1; the parties open y = x + r mod 2^64, which tells
nothing of x. Write v mod 2^n as three digits v1, v2, v3 of w1, w2, w3 bits (`digits.widths`).

1. x = y - r mod 2^64, and 2^n divides 2^64, so x = y - r mod 2^n. In this difference the top digit
   is d - c mod 2^w1, where d = y1 - r1 mod 2^w1 and c is the borrow from the two digits below:
   c = 1 - (G + F L) with G = 1{r2 < y2}, F = 1{r2 = y2}, L = 1{r3 <= y3}.
2. x mod 2^n has its highest bit 0 iff d - c mod 2^w1 is below h = 2^(w1-1). For 0 < d < h it is,
   whatever c; for d = 0 iff c = 0; for d > h it is not.
3. d = h is left: d - c is below h iff c = 1. It is taken to be. That is wrong iff d - c = h, for x
   in -2^(n-1) to -2^(n-1) + 2^(n-w1) - 1. So for every other x of -2^(n-1) to 2^(n-1) - 1, and
   every r, 1{x >= 0} = b = A + E (G + F L) with A = 1{0 < d <= h}, E = 1{d = 0}.

These are equations of integers, without exceptions. For other x the result may be wrong, and nobody
sees it without an audit. `digits` gives shares of A, E, G, F and of a narrow digit's L, which are
opened under a mask bit each; a wide low digit's L is the prefix parity of a point function (`dpf`).
`choice` gives the share of x b = max(x, 0).

What is opened is uniform: y because of r, five bits because of their masks. Keys are for one
comparison: two numbers opened under one r give away their difference.

Source: Boyle, Chandran, Gilboa, Gupta, Ishai, Kumar, Rathee 2021, "Function Secret Sharing for
Mixed-Mode and Fixed-Point Secure Computation", for the opening of y; Garay, Schoenmakers, Villegas
2007, and Rathee et al. 2020 (CrypTFlow2), for comparison by digits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from primia_flwr.inference.fss import choice, digits, dpf
from primia_flwr.inference.fss.keys import Bits, Buffer, CompareKeys, Sizes, Tree, read
from primia_flwr.inference.fss.parts import check_words, in_parts
from primia_flwr.inference.fss.prg import Words
from primia_flwr.inference.fss.seeded import masks_of, pairs_of, roots_of, tables_of


def expand(party: int, seed: bytes, sent: Buffer, bits: int, count: int) -> CompareKeys:
    """Return a party's keys from its seed and from what the dealer sent.

    Parameters
    ----------
    party : int
        0 or 1.
    seed : bytes
        The party's, 32 bytes.
    sent : bytes-like
        The parts of `Dealt.sent` in a row; the keys are views of it where it is aligned.
    bits : int
        n, 8 to 64.
    count : int
        Comparisons, at least 1.

    Raises
    ------
    ConfigError
        If the party, the bits or the count is out of range.
    ProtocolError
        If `sent` or the seed has another length.
    """
    sizes = Sizes(bits, count)
    tree, tables, pairs = read(party, sent, sizes)
    own = pairs_of(seed, sizes.pairs(1 - party), count)
    return CompareKeys(
        party,
        bits,
        masks_of(seed, count),
        tables_of(seed, sizes) if tables is None else tables,
        (*own, *pairs) if party else (*pairs, *own),
        tree,
        roots_of(seed, count if tree else 0),
    )


def evaluate(keys: CompareKeys, opened: Words, threads: int = 1) -> Bits:
    """Return this party's XOR shares of the five masked bits, packed, the lowest bit first.

    Parameters
    ----------
    keys : CompareKeys
        This party's, not used before.
    opened : ndarray
        (count,) uint64: x + r mod 2^64 of each comparison, the same for both parties.
    threads : int
        Work on up to that many parts at a time; the result is the same.

    Returns
    -------
    ndarray
        (5, ceil(count / 8)) uint8. The XOR of both parties' is to be opened.

    Raises
    ------
    ConfigError
        If `opened` or `threads` is not as described.
    """
    check_words("opened", opened, keys.count)
    bits = np.empty((choice.MASKS, keys.count), np.uint8)

    def work(part: slice) -> None:
        shares = _shares(keys, part, opened[part])
        bits[: len(shares), part] = shares

    in_parts(work, keys.count, threads)
    if keys.tree is not None:
        _evaluate_tree(keys, keys.tree, opened, bits[-1], threads)
    return np.packbits(bits, axis=1, bitorder="little") ^ keys.masks


def relu(keys: CompareKeys, opened: Words, bits: Bits, share: Words, threads: int = 1) -> Words:
    """Return this party's share of max(x, 0).

    `keys`: this party's. `opened`: (count,) uint64: as for `evaluate`. `bits`: (5, count) uint8 of
    0 and 1: the XOR of both parties' results of `evaluate`, unpacked. `share`: (count,) uint64: of
    x. `threads`: work on up to that many parts at a time; the result is the same.

    Raises
    ------
    ConfigError
        If `threads` is not as described.
    """
    result = np.empty_like(share)

    def work(part: slice) -> None:
        pairs = [pair[:, part] for pair in keys.pairs]
        result[part] = choice.product(pairs, bits[:, part], opened[part], share[part])

    in_parts(work, keys.count, threads)
    return result


def _shares(keys: CompareKeys, part: slice, opened: Words) -> list[NDArray[Any]]:
    """Return a party's shares of A, E, G, F, and L if it has a table, of some comparisons."""
    at, rows = digits.split(opened, keys.bits), digits.rows(keys.bits)
    tables = [keys.tables[words, part] for words in rows]
    inside, equal = digits.read_top(tables[0], at[0], digits.widths(keys.bits)[0])
    less, same = digits.read(tables[1], at[1])
    shares = [digits.parity(inside), equal, digits.parity(less), same]
    if keys.tree is None:
        before, there = digits.read(tables[2], at[2])
        shares.append(digits.parity(before ^ there))
    return shares


def _evaluate_tree(
    keys: CompareKeys, tree: Tree, opened: Words, result: Bits, threads: int
) -> None:
    """Write a party's shares of L, by its point functions."""

    def work(part: slice) -> None:
        points, words = digits.split(opened[part], keys.bits)[2], tree.corrections[:, part]
        result[part] = dpf.prefix_parity(
            keys.party, tree.cipher_key, keys.roots[part], words, points
        )

    in_parts(work, keys.count, threads, dpf.CHUNK)
