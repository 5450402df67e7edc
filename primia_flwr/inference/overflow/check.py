"""Audit: was a compared number of the batch outside its ring? The data owner alone learns it.

A comparison in a ring of n bits is right for numbers in it; see `fss.compare` for the few above
-2^(n-1) that count as outside, as those from 2^(n-1) on do. With audit each number that is compared
is checked, and the scores come out only if every comparison was right. That takes no message of its
own, and the model owner learns nothing.

One comparison. The parties have opened y = x + r, and a = A xor sa. Let K(v) be bits n to 63 of v,
B the bit that was computed for 1{x >= 0}, and C = 1{r mod 2^n <= y mod 2^n}.

1. K(x) = K(y) - K(r) - (1 - C) mod 2^(64-n): the borrow of a subtraction.
2. If T = K(x) + 1 - B = 0 mod 2^(64-n), then B = 1 and 0 <= x < 2^n, or B = 0 and -2^n <= x < 0:
   the comparison was right. For x in the ring T = 0. For x outside of -2^n to 2^n - 1 it is not.
3. In the words of `fss.compare`, B = A + E (G + F L). With r1 and y1, the top digits, also
   C = 1{r1 < y1} + E (G + F L). So T = K(y) - K(r) + 1{r1 < y1} - A.
4. Let m be the highest bit of r1, t that of y1. Where they are equal, A = 1{r1 < y1}. For t = 1 and
   m = 0 the difference 1{r1 < y1} - A is 1 - A, for t = 0 and m = 1 it is -A. Put W = K(r) + m sa
   and V = K(r) + m (1 - sa), and A = a + (1-2a) sa:
   T = K(y) - W (t = 0, a = 0), K(y) - V (0, 1), K(y) + 1 - V - sa (1, 0), K(y) - W + sa (1, 1).

The parties have additive shares of sa, and the dealer adds shares of W and V. All else is public.

The batch. T = 0 iff T_0 = -T_1. The data owner hashes all its T_0 to D_0, the model owner all its
-T_1 to D_1. Neither is sent. D_0 = D_1 iff T = 0 for all, but for a collision of SHA-256.

The scores. The dealer gives the data owner uniform a (256 bits) and u (384 bits), the model owner
a uniform binary matrix M (384 x 256) and v = M a xor u. The data owner sends D_0 xor a. The model
owner computes k = M (D_0 xor a xor D_1) xor v = M (D_0 xor D_1) xor u, sends the first 128 bits
of k, and its share of the scores masked by a stream of the other 256.

- No number outside: k = u, so the data owner takes the mask away.
- Else M (D_0 xor D_1) is uniform, and independent of all that the data owner has: so is k. The
  share stays masked, and the first 128 bits are those of u with probability 2^-128.

The model owner sees D_0 xor a, uniform because of a, and v, uniform because of u.

Source: this equality test and conditional disclosure (Gertner, Ishai, Kushilevitz, Malkin 1998) are
put together here from their parts; no paper has been followed.
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

import numpy as np
from numpy.typing import NDArray

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.arithmetic.randomness import SEED_BYTES, Stream

_Words = NDArray[np.uint64]
_Bits = NDArray[np.uint8]

DIGEST_WORDS = 4
TAG_BYTES = 16
CHECK_BYTES = 16
_KEY_WORDS = (TAG_BYTES + SEED_BYTES) // 8
LOCK_BYTES = 8 * _KEY_WORDS
_PURPOSE = "audit"


@dataclass(frozen=True, eq=False, repr=False)
class Checks:
    """One party's shares for a comparison step, uint64 (count,) each.

    `equal`: W, for where a is t. `other`: V, for where it is not.
    """

    equal: _Words
    other: _Words

    @classmethod
    def own(cls, seed: bytes, number: int, count: int) -> Self:
        """Return the data owner's, of step `number`, from its seed."""
        return cls(*Stream(seed, _PURPOSE, number).uint64((2, count)))

    @classmethod
    def from_bytes(cls, raw: bytes | memoryview) -> Self:
        """Return the model owner's from what `deal_checks` gives."""
        return cls(*np.frombuffer(raw, np.uint64).reshape(2, -1))


def deal_checks(seed: bytes, number: int, r: _Words, inside: _Bits, bits: int) -> bytes:
    """Return the model owner's shares of a step, `CHECK_BYTES` a comparison.

    Parameters
    ----------
    seed : bytes
        The data owner's, 32 bytes.
    number : int
        Of the comparison step.
    r, inside : ndarray
        (count,) uint64 and uint8: the comparisons' masks, and those of their bit A.
    bits : int
        n, 8 to 64.
    """
    own, highest = Checks.own(seed, number, r.size), r >> np.uint64(bits - 1)
    high, m = highest >> np.uint64(1), highest & np.uint64(1)
    both = m & inside
    return (high + both - own.equal).tobytes() + (high + (m ^ both) - own.other).tobytes()


def residues(
    party: int, bits: int, opened: _Words, inside: _Bits, sa: _Words, checks: Checks
) -> _Words:
    """Return T_0 of each number, or -T_1, modulo 2^(64-n); the two are equal inside the ring.

    `party`: 0 or 1. `bits`: n, 8 to 64. `opened`, `inside`: (count,) uint64 and uint8: y and a of
    each comparison. `sa`: (count,) uint64: this party's additive shares of the masks sa. `checks`:
    this party's.
    """
    one, highest = np.uint64(party == ring.DATA_OWNER), opened >> np.uint64(bits - 1)
    t, a = (highest & np.uint64(1)).astype(np.bool_), inside.astype(np.bool_)
    total: _Words = (highest >> np.uint64(1)) * one - np.where(t ^ a, checks.other, checks.equal)
    total += np.where(t, np.where(a, sa, one - sa), np.uint64(0))
    if party == ring.MODEL_OWNER:
        np.negative(total, out=total)
    return total & np.uint64((1 << (64 - bits)) - 1)


class Ledger:
    """Hashes one party's residues of a batch, in the order of the plan."""

    def __init__(self, party: int) -> None:
        self._party, self._hash = party, sha256()

    def add(
        self, bits: int, opened: _Words, inside: _Bits, sa: _Words, checks: Checks | None
    ) -> None:
        """Take in one comparison step; see `residues`.

        Raises
        ------
        ProtocolError
            If the block has no checks.
        """
        if checks is None:
            raise ProtocolError("a block was dealt without audit; expected shares for its checks")
        self._hash.update(residues(self._party, bits, opened, inside, sa, checks).data)

    def digest(self) -> _Words:
        """Return the hash of all, (4,) uint64."""
        return np.frombuffer(self._hash.digest(), np.uint64)


@dataclass(frozen=True, eq=False, repr=False)
class Lock:
    """The model owner's part of a release, for one batch: `rows` (384, 4) of M; `offset`: v."""

    rows: _Words
    offset: _Words

    @classmethod
    def open(cls, seed: bytes, sent: bytes | memoryview) -> Self:
        """Return that of a block, from the model owner's seed and `LOCK_BYTES` that were dealt."""
        return cls(_matrix(seed), np.frombuffer(sent, np.uint64))

    def answer(self, asked: _Words, digest: _Words) -> tuple[bytes, bytes]:
        """Return k as 16 bytes to be sent, and 32 as the seed of the scores' mask.

        Parameters
        ----------
        asked, digest : ndarray
            (4,) uint64: what `Key.ask` gave, and this party's `Ledger.digest`.
        """
        key = (_times(self.rows, asked ^ digest) ^ self.offset).tobytes()
        return key[:TAG_BYTES], key[TAG_BYTES:]


@dataclass(frozen=True, eq=False, repr=False)
class Key:
    """The data owner's part of a release, for one batch: `pad` (4,) is a; `key` (6,) is u."""

    pad: _Words
    key: _Words

    @classmethod
    def open(cls, seed: bytes) -> Self:
        """Return that of a block, from the data owner's seed."""
        stream = Stream(seed, _PURPOSE, "key")
        return cls(stream.uint64(DIGEST_WORDS), stream.uint64(_KEY_WORDS))

    def ask(self, digest: _Words) -> _Words:
        """Return what goes to the model owner, (4,) uint64: `Ledger.digest` masked."""
        return digest ^ self.pad

    @property
    def seed(self) -> bytes:
        """The seed of the scores' mask, 32 bytes, if the tag fits."""
        return self.key.tobytes()[TAG_BYTES:]

    def fits(self, tag: bytes | bytearray | memoryview) -> bool:
        """Say whether no number was outside its ring: the model owner's tag is this key's."""
        return hmac.compare_digest(self.key.tobytes()[:TAG_BYTES], tag)


def deal_lock(seeds: tuple[bytes, bytes]) -> bytes:
    """Return what the model owner is sent for a release; `seeds`: both parties', 32 bytes each."""
    own = Key.open(seeds[0])
    return (_times(_matrix(seeds[1]), own.pad) ^ own.key).tobytes()


def score_mask(seed: bytes, count: int) -> _Words:
    """Return what masks the model owner's share of the scores, (count,) uint64."""
    return Stream(seed, _PURPOSE, "scores").uint64(count)


def _matrix(seed: bytes) -> _Words:
    return Stream(seed, _PURPOSE, "matrix").uint64((64 * _KEY_WORDS, DIGEST_WORDS))


def _times(rows: _Words, vector: _Words) -> _Words:
    """Return the product of a binary matrix, a row in 4 words, with a vector; (6,) words."""
    parities = np.bitwise_xor.reduce(np.bitwise_count(rows & vector), axis=1) & np.uint8(1)
    return np.packbits(parities, bitorder="little").view(np.uint64)
