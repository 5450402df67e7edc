"""Keys of comparisons as arrays and as bytes: what the dealer sends and what a party holds.

What is sent are these parts in a row, little-endian words all of them:

1. where the low digit takes a tree: its correction words, (levels + 1, count, 2), those of one
   level in one stream, and the key of the trees' hash, 16 bytes; the same for both parties;
2. to the data owner, party 0: the digits' tables, (words, count);
3. some of the ten pairs of shares to each, (pairs, 2, count).

The rest, roots, tables, pairs and mask bits, comes from the seed of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.fss import choice, digits
from primia_flwr.inference.fss.dpf import levels
from primia_flwr.inference.fss.prg import BLOCK_BYTES, KEY_BYTES, WORD, Words

Bits = NDArray[np.uint8]
Buffer = bytes | bytearray | memoryview
_MIN_BITS, _MAX_BITS = 8, 64


@dataclass(frozen=True)
class Sizes:
    """What `count` comparisons of `bits` bits take.

    `tree_words`: correction words of a comparison, 0 without a tree. `table_words`: of its tables.
    `pairs`: how many of its ten pairs party 0 and party 1 are sent.

    Raises
    ------
    ConfigError
        If the bits are not in 8 to 64, or the count is below 1.
    """

    bits: int
    count: int

    def __post_init__(self) -> None:
        if not _MIN_BITS <= self.bits <= _MAX_BITS:
            raise ConfigError(
                f"bits={self.bits} of a comparison; expected {_MIN_BITS} to {_MAX_BITS}"
            )
        if self.count < 1:
            raise ConfigError(f"count={self.count} of comparisons; expected at least 1")

    @property
    def tree_words(self) -> int:
        """Correction words of a comparison."""
        low = digits.widths(self.bits)[2]
        return levels(low) + 1 if digits.has_tree(self.bits) else 0

    @property
    def table_words(self) -> int:
        """Words of a comparison's tables."""
        return int(digits.rows(self.bits)[-1].stop)

    def pairs(self, party: int) -> int:
        """Pairs that a party is sent."""
        first = choice.pairs_to_data_owner(self.table_words)
        return choice.PAIRS - first if party else first

    def sent_bytes(self, party: int) -> int:
        """Return the bytes that the dealer sends to a party, its seed not counted.

        Raises
        ------
        ConfigError
            If the party is not 0 or 1.
        """
        if party not in (0, 1):
            raise ConfigError(f"party={party} of a comparison; expected 0 or 1")
        tree = BLOCK_BYTES * self.tree_words * self.count + KEY_BYTES * bool(self.tree_words)
        words = 0 if party else 8 * self.table_words
        return tree + (words + choice.PAIR_BYTES * self.pairs(party)) * self.count

    @property
    def held_bytes(self) -> int:
        """Return what a party's keys take in memory, but for a few bytes."""
        tree = BLOCK_BYTES * (self.tree_words + bool(self.tree_words))
        return (tree + 8 * self.table_words + choice.PAIR_BYTES * choice.PAIRS + 1) * self.count


@dataclass(frozen=True, eq=False, repr=False)
class Tree:
    """What both parties hold of the low digits' point functions.

    Parameters
    ----------
    corrections : ndarray
        (levels + 1, count, 2) uint64.
    cipher_key : bytes
        Of the trees' hash, 16 bytes; not secret.
    """

    corrections: Words
    cipher_key: bytes


@dataclass(frozen=True, eq=False, repr=False)
class Dealt:
    """What the dealer sends beyond the seeds.

    Parameters
    ----------
    tree : Tree or None
        Of the low digits, the same for both parties.
    tables : ndarray
        Party 0's shares, (words, count) uint64.
    pairs : tuple of ndarray
        What party 0 and party 1 are sent, (pairs, 2, count) uint64.
    inside : ndarray
        (count,) uint8 of 0 and 1: the masks sa, which an audit needs and nobody is sent.
    """

    tree: Tree | None
    tables: Words
    pairs: tuple[Words, Words]
    inside: Bits

    def sent(self, party: int) -> tuple[memoryview, ...]:
        """Return views whose concatenation, of `Sizes.sent_bytes`, is for that party."""
        parts = [_raw(self.pairs[party])]
        if party == 0:
            parts.insert(0, _raw(self.tables))
        if self.tree is not None:
            parts = [_raw(self.tree.corrections), memoryview(self.tree.cipher_key), *parts]
        return tuple(parts)


@dataclass(frozen=True, eq=False, repr=False)
class CompareKeys:
    """One party's keys for `count` comparisons: secret, and for one evaluation only.

    Parameters
    ----------
    party : int
        0 or 1.
    bits : int
        n, 8 to 64.
    masks : ndarray
        (5, ceil(count / 8)) uint8: shares of the mask bits, packed, the lowest bit first.
    tables : ndarray
        (words, count) uint64.
    pairs : sequence of ndarray
        Shares of the ten pairs, (2, count) uint64 each.
    tree : Tree or None
        Of the low digits, with `roots`, (count, 2) uint64.
    """

    party: int
    bits: int
    masks: Bits
    tables: Words
    pairs: Sequence[Words]
    tree: Tree | None
    roots: Words

    @property
    def count(self) -> int:
        """How many comparisons these keys are for."""
        return len(self.pairs[0][0])


def read(party: int, sent: Buffer, sizes: Sizes) -> tuple[Tree | None, Words | None, Words]:
    """Return tree, tables (party 0 only) and pairs of what was sent; views of it where aligned.

    Raises
    ------
    ConfigError
        If the party is not 0 or 1.
    ProtocolError
        If `sent` has another length.
    """
    view, expected = memoryview(sent).cast("B"), sizes.sent_bytes(party)
    if len(view) != expected:
        raise ProtocolError(
            f"what the dealer sent for {sizes.count} comparisons of {sizes.bits} bits to party "
            f"{party} has {len(view)} bytes; expected {expected}"
        )
    tree = None
    if sizes.tree_words:
        end = BLOCK_BYTES * sizes.tree_words * sizes.count
        corrections = _words(view[:end], (sizes.tree_words, sizes.count, 2))
        tree = Tree(corrections, bytes(view[end : end + KEY_BYTES]))
        view = view[end + KEY_BYTES :]
    tables = None
    if party == 0:
        end = 8 * sizes.table_words * sizes.count
        tables = _words(view[:end], (sizes.table_words, sizes.count))
        view = view[end:]
    return tree, tables, _words(view, (sizes.pairs(party), 2, sizes.count))


def _raw(array: Words) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _words(raw: memoryview, shape: tuple[int, ...]) -> Words:
    return np.require(np.frombuffer(raw, WORD).reshape(shape), requirements="A")
