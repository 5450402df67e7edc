"""Comparison with zero of secret-shared numbers, exact: one point function for each.

Let n = `bits`. The dealer picks r, uniform in 0 to 2^64 - 1, and a bit s, and deals shares of
the point function at alpha = r mod 2^(n-1). The parties open y = x + r mod 2^64, which tells
nothing of x, and `evaluate` gives XOR shares of s xor 1{x >= 0}. Nor does this bit, opened,
tell anything of x: s is uniform.

The result is right for every r and every x in -2^(n-1) to 2^(n-1) - 1, as two's complement in
64 bits. Write m(v) for bit n-1 of v, and v' for v mod 2^(n-1).

1. x = y - r mod 2^64, and 2^n divides 2^64, so x = y - r mod 2^n: the low n bits of x are those
   of the difference of the low n bits of y and r.
2. In this difference bit n-1 is m(y) xor m(r) xor c, where c is the borrow from the n-1 bits
   below, c = 1{y' < r'}. So m(x) = m(y) xor m(r) xor 1{y' < alpha}.
3. For x in that range m(x) = 1{x < 0}: bits n-1 to 63 of its two's complement are equal, and
   bit 63 is the sign.
4. The prefix parity of the point function, y' included, is 1{alpha <= y'}, the complement of
   1{y' < alpha}. So 1{x >= 0} = 1 xor m(x) = m(y) xor m(r) xor 1{alpha <= y'}.

These are equations of integers, without exceptions. For x outside the range the result is
wrong, and nobody sees it without an audit (`crypto.audit`). The parties hold XOR shares of the bit
m(r) xor s, and party 0 adds m(y), which is public.

Keys are for one evaluation: two numbers opened under one r give away their difference.

Source: Boyle, Chandran, Gilboa, Gupta, Ishai, Kumar, Rathee 2021, "Function Secret Sharing for
Mixed-Mode and Fixed-Point Secure Computation"; Storrier et al. 2023 (Grotto).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss import dpf
from primia_flwr.inference.fss.keys import (
    Bits,
    Buffer,
    CompareKeys,
    Dealt,
    check_sizes,
    key_bytes,
    packed_bytes,
    sent_bytes,
)
from primia_flwr.inference.fss.prg import KEY_BYTES, WORD, Words

__all__ = [
    "CompareKeys",
    "Dealt",
    "deal",
    "evaluate",
    "expand",
    "key_bytes",
    "sent_bytes",
]
_PURPOSE = "comparison"


def deal(r: Words, s: Bits, bits: int, seeds: tuple[bytes, bytes], *, threads: int = 1) -> Dealt:
    """Deal one comparison for each r.

    Parameters
    ----------
    r : ndarray
        (count,) uint64, uniform: the masks of the numbers to compare.
    s : ndarray
        (count,) uint8 of 0 and 1, uniform: the masks of the results.
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
    check_sizes(0, bits, r.size)
    _check("r", r, np.uint64, r.size)
    _check("s", s, np.uint8, r.size)
    if s.max() > 1:
        raise ConfigError(f"s has an entry {s.max()}; expected 0 and 1 only")
    if seeds[0] == seeds[1]:
        raise ProtocolError("both parties have the same seed; expected two, each party's secret")
    cipher_key = Stream(seeds[0], _PURPOSE, "cipher key").bytes(KEY_BYTES)
    roots = _roots(seeds[0], r.size), _roots(seeds[1], r.size)
    corrections = np.empty((dpf.levels(bits - 1) + 1, r.size, 2), WORD)

    def work(part: slice) -> None:
        pair, alphas = (roots[0][part], roots[1][part]), r[part] & _below(bits)
        dpf.generate(cipher_key, alphas, pair, corrections[:, part])

    _in_parts(work, r.size, threads)
    shares = np.packbits(_top(r, bits) ^ s, bitorder="little") ^ _own_shares(seeds[0], r.size)
    return Dealt(corrections, cipher_key, shares)


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
    dealt = Dealt.from_bytes(party, sent, bits, count)
    if party == 0:
        dealt = Dealt(dealt.corrections, dealt.cipher_key, _own_shares(seed, count))
    return CompareKeys(party, bits, dealt, _roots(seed, count))


def evaluate(keys: CompareKeys, opened: Words, threads: int = 1) -> Bits:
    """Return this party's XOR shares of s xor 1{x >= 0}.

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
        (count,) uint8 of 0 and 1.

    Raises
    ------
    ConfigError
        If `opened` or `threads` is not as described.
    """
    _check("opened", opened, np.uint64, keys.count)
    dealt = keys.dealt
    result = np.unpackbits(dealt.shares, count=keys.count, bitorder="little")

    def work(part: slice) -> None:
        points, words = opened[part] & _below(keys.bits), dealt.corrections[:, part]
        result[part] ^= dpf.prefix_parity(
            keys.party, dealt.cipher_key, keys.roots[part], words, points
        )
        if keys.party == 0:
            result[part] ^= _top(opened[part], keys.bits)

    _in_parts(work, keys.count, threads)
    return result


def _below(bits: int) -> np.uint64:
    """Return the mask of the bits below the one that is compared."""
    return np.uint64((1 << (bits - 1)) - 1)


def _top(words: Words, bits: int) -> Bits:
    """Return bit n-1 of each word."""
    return (words >> np.uint64(bits - 1)).astype(np.uint8) & np.uint8(1)


def _roots(seed: bytes, count: int) -> Words:
    return Stream(seed, _PURPOSE, "roots").uint64((count, 2))


def _own_shares(seed: bytes, count: int) -> Bits:
    raw = Stream(seed, _PURPOSE, "shares").bytes(packed_bytes(count))
    return np.frombuffer(raw, np.uint8)


def _in_parts(work: Callable[[slice], None], count: int, threads: int) -> None:
    """Call `work` on up to `threads` slices that together are 0 to `count`, all at once."""
    if threads < 1:
        raise ConfigError(f"threads={threads} of comparisons; expected at least 1")
    each = dpf.CHUNK * -(-count // (dpf.CHUNK * threads))
    parts = [slice(start, min(start + each, count)) for start in range(0, count, each)]
    if len(parts) == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, parts))


def _check(name: str, array: NDArray[np.generic], dtype: type[np.generic], count: int) -> None:
    if array.dtype != dtype or array.shape != (count,):
        raise ConfigError(
            f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} ({count},), one "
            "entry for each comparison"
        )
