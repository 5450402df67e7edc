"""Keys of comparisons as arrays and as bytes: what the dealer sends and what a party holds.

Both are some of these parts in a row, with little-endian words:

1. roots, (count, 2) words;
2. correction words, (levels + 1, count, 2) words: those of one level are one stream;
3. the key of the trees' hash, 16 bytes;
4. bit shares, packed with the lowest bit first, ceil(count / 8) bytes.

A party stores all four. The dealer sends 2 and 3 to party 0, and 2 to 4 to party 1: the rest
comes from the seed of each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.fss.dpf import levels
from primia_flwr.inference.fss.prg import BLOCK_BYTES, KEY_BYTES, WORD, Words

Bits = NDArray[np.uint8]
Buffer = bytes | bytearray | memoryview
_MIN_BITS, _MAX_BITS = 8, 64


def sent_bytes(party: int, bits: int, count: int) -> int:
    """Return the bytes that the dealer sends to a party, its seed not counted.

    Raises
    ------
    ConfigError
        If the party is not 0 or 1, the bits are not in 8 to 64, or the count is below 1.
    """
    check_sizes(party, bits, count)
    words = BLOCK_BYTES * (levels(bits - 1) + 1) * count
    return words + KEY_BYTES + party * packed_bytes(count)


def key_bytes(bits: int, count: int) -> int:
    """Return the bytes of one party's keys as it stores them; see `CompareKeys.from_bytes`.

    Raises
    ------
    ConfigError
        If the bits are not in 8 to 64, or the count is below 1.
    """
    return sent_bytes(1, bits, count) + BLOCK_BYTES * count


def packed_bytes(count: int) -> int:
    """Return the bytes of `count` packed bits."""
    return -(-count // 8)


@dataclass(frozen=True, eq=False, repr=False)
class Dealt:
    """What the dealer sends beyond the seeds.

    Parameters
    ----------
    corrections : ndarray
        (levels + 1, count, 2) uint64, the same for both parties.
    cipher_key : bytes
        Of the trees' hash, 16 bytes, the same for both parties; not secret.
    shares : ndarray
        Party 1's bit shares, packed: (ceil(count / 8),) uint8.
    """

    corrections: Words
    cipher_key: bytes
    shares: Bits

    def sent(self, party: int) -> tuple[memoryview, ...]:
        """Return views whose concatenation, of `sent_bytes`, is for that party."""
        common = _raw(self.corrections), memoryview(self.cipher_key)
        return (*common, _raw(self.shares)) if party else common

    @classmethod
    def from_bytes(cls, party: int, sent: Buffer, bits: int, count: int) -> "Dealt":
        """Undo `sent`; arrays are views where aligned, and party 0 gets no shares.

        Raises
        ------
        ConfigError
            If the party, the bits or the count is out of range.
        ProtocolError
            If `sent` has another length.
        """
        view, expected = memoryview(sent).cast("B"), sent_bytes(party, bits, count)
        if len(view) != expected:
            raise ProtocolError(
                f"what the dealer sent for {count} comparisons of {bits} bits to party {party} "
                f"has {len(view)} bytes; expected {expected}"
            )
        shape, end = (levels(bits - 1) + 1, count, 2), sent_bytes(0, bits, count)
        corrections = _words(view[: end - KEY_BYTES], shape)
        shares = np.frombuffer(view[end:], np.uint8)
        return cls(corrections, bytes(view[end - KEY_BYTES : end]), shares)


@dataclass(frozen=True, eq=False, repr=False)
class CompareKeys:
    """One party's keys for `count` comparisons: secret, and for one evaluation only.

    Parameters
    ----------
    party : int
        0 or 1.
    bits : int
        n, 8 to 64: the numbers are in -2^(n-1) to 2^(n-1) - 1.
    dealt : Dealt
        The correction words and the hash's key of both, and this party's bit shares.
    roots : ndarray
        (count, 2) uint64.
    """

    party: int
    bits: int
    dealt: Dealt
    roots: Words

    @property
    def count(self) -> int:
        """How many comparisons these keys are for."""
        return len(self.roots)

    @classmethod
    def from_bytes(cls, party: int, raw: Buffer, bits: int, count: int) -> "CompareKeys":
        """Read the roots and what the dealer sent; views of `raw` where it is aligned to words.

        Raises
        ------
        ConfigError
            If the party, the bits or the count is out of range.
        ProtocolError
            If `raw` has another length.
        """
        check_sizes(party, bits, count)
        view, expected = memoryview(raw).cast("B"), key_bytes(bits, count)
        if len(view) != expected:
            raise ProtocolError(
                f"keys of {count} comparisons of {bits} bits have {len(view)} bytes; expected "
                f"{expected}"
            )
        start = BLOCK_BYTES * count
        dealt = Dealt.from_bytes(1, view[start:], bits, count)
        return cls(party, bits, dealt, _words(view[:start], (count, 2)))


def check_sizes(party: int, bits: int, count: int) -> None:
    """Refuse what no comparison has.

    Raises
    ------
    ConfigError
        If the party is not 0 or 1, the bits are not in 8 to 64, or the count is below 1.
    """
    if party not in (0, 1):
        raise ConfigError(f"party={party} of a comparison; expected 0 or 1")
    if not _MIN_BITS <= bits <= _MAX_BITS:
        raise ConfigError(f"bits={bits} of a comparison; expected {_MIN_BITS} to {_MAX_BITS}")
    if count < 1:
        raise ConfigError(f"count={count} of comparisons; expected at least 1")


def _raw(array: Words | Bits) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _words(raw: memoryview, shape: tuple[int, ...]) -> Words:
    return np.require(np.frombuffer(raw, WORD).reshape(shape), requirements="A")
