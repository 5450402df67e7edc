"""What the dealer sends for comparisons: the differences to what the parties' seeds give."""

import numpy as np

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.fss import choice, digits, dpf
from primia_flwr.inference.fss.keys import Dealt, Sizes, Tree
from primia_flwr.inference.fss.parts import check_words, in_parts
from primia_flwr.inference.fss.prg import WORD, Words
from primia_flwr.inference.fss.seeded import cipher_key_of, masks_of, pairs_of, roots_of, tables_of


def deal(r: Words, bits: int, seeds: tuple[bytes, bytes], *, threads: int = 1) -> Dealt:
    """Deal one comparison for each r.

    Parameters
    ----------
    r : ndarray
        (count,) uint64, uniform: the masks of the numbers to compare.
    bits : int
        n, 8 to 64.
    seeds : tuple of bytes
        Of party 0 and of party 1, 32 bytes each, fresh: they are for this dealing alone.
    threads : int
        Work on up to that many parts at a time; the result is the same.

    Raises
    ------
    ConfigError
        If an array, the bits or the threads are not as described.
    ProtocolError
        If a seed does not have 32 bytes, or both are the same.
    """
    sizes = Sizes(bits, r.size)
    check_words("r", r, r.size)
    if seeds[0] == seeds[1]:
        raise ProtocolError("both parties have the same seed; expected two, each party's secret")
    masks = masks_of(seeds[0], r.size) ^ masks_of(seeds[1], r.size)
    unmasked = np.unpackbits(masks, axis=1, count=r.size, bitorder="little")
    tables = tables_of(seeds[1], sizes)
    first = sizes.pairs(0)
    pairs = pairs_of(seeds[1], first, r.size), pairs_of(seeds[0], sizes.pairs(1), r.size)

    def work(part: slice) -> None:
        for rows, numbers in zip(digits.rows(bits), digits.split(r[part], bits), strict=False):
            digits.mark(tables[rows, part], numbers)
        values = choice.values(unmasked[:, part], r[part])
        for own, value in zip(pairs, (values[:first], values[first:]), strict=True):
            np.subtract(value, own[..., part], out=own[..., part])

    in_parts(work, r.size, threads)
    tree = _deal_tree(r, sizes, seeds, threads) if sizes.tree_words else None
    return Dealt(tree, tables, pairs, unmasked[0])


def _deal_tree(r: Words, sizes: Sizes, seeds: tuple[bytes, bytes], threads: int) -> Tree:
    """Deal the point functions of the low digits."""
    cipher_key = cipher_key_of(seeds[0])
    roots = roots_of(seeds[0], r.size), roots_of(seeds[1], r.size)
    corrections = np.empty((sizes.tree_words, r.size, 2), WORD)

    def work(part: slice) -> None:
        pair, alphas = (roots[0][part], roots[1][part]), digits.split(r[part], sizes.bits)[2]
        dpf.generate(cipher_key, alphas, pair, corrections[:, part])

    in_parts(work, r.size, threads, dpf.CHUNK)
    return Tree(corrections, cipher_key)
