"""Distributed point functions, many at a time, and the prefix parities of their values.

A key is one of two shares of f(y) = 1{y = alpha}, y in 0 to 2^n - 1. Each party holds a binary
tree of depth n - 7 whose nodes carry a seed and a control bit. A node is on the path if alpha
is below it. Both parties hold the same seed and the same control bit at every node off the
path, and unrelated seeds and opposite control bits at those on it; this holds at the root, and
the correction word of a level, which is XORed in where the control bit is 1, carries it to the
children. So the control bits are XOR shares of 1{alpha is below this node}. At a leaf, the hash
of the seed, corrected by a last word where the control bit is 1, is a share of the values of f
at 128 points: zero off the path, else a block with one bit set.

Child d of a node (0: left) has its seed in bits 2 to 127 of the hash, and its control bit in bit
d. A correction word is thus 128 bits with both control bits' corrections in the low two.

The parity of f(0), ..., f(y), which is 1{alpha <= y}, needs the nodes on the way to y alone.
The points up to y lie below the left siblings of those nodes to which the way turns right, and
in the leaf at y. A left sibling's control bit is not computed: alpha is below it if it is below
the parent and not below the right child, so the share is the XOR of the two bits at hand.

What one party holds is its own seed and correction words, each of which is masked by blocks of
the other party's tree that it cannot compute. The work does not branch on, nor index by, seeds,
control bits or alpha.

Source: Boyle, Gilboa, Ishai 2016, "Function Secret Sharing: Improvements and Extensions",
figure 1, with early termination; prefix parities: Storrier, Vadapalli, Lyons, Henry 2023,
"Grotto: Screaming fast (2+1)-PC for Z_2^n via (2,2)-DPFs".
"""

import numpy as np
from numpy.typing import NDArray

from primia_flwr.inference.fss.prg import LEAF, SEED_BITS, WORD, Hash, Words

_LEAF_BITS = 7  # a leaf is a block: the values at 2^7 points
CHUNK = 1 << 15  # trees walked at a time: calls are few, and what they need fits a cache
_DEALT = 1 << 13  # trees dealt at a time: four blocks for each
_ONE = np.uint64(1)


def levels(domain_bits: int) -> int:
    """Return the depth of a tree, its leaves of 128 points not counted."""
    return max(0, domain_bits - _LEAF_BITS)


def generate(key: bytes, alphas: Words, roots: tuple[Words, Words], corrections: Words) -> None:
    """Make two roots shares of the point functions at `alphas`, by filling the corrections.

    Parameters
    ----------
    key : bytes
        Of the hash, 16 bytes.
    alphas : ndarray
        (count,) uint64, each in the domain: below 2^(levels + 7).
    roots : tuple of ndarray
        Each party's (count, 2) uint64, uniform; their two low bits are not used.
    corrections : ndarray
        (levels + 1, count, 2) uint64, overwritten: correction words, the last for the leaves.
    """
    hash_ = Hash(key, 4 * _DEALT)
    for start in range(0, alphas.size, _DEALT):
        part = slice(start, start + _DEALT)
        pair = np.stack([root[part] for root in roots])
        _generate(hash_, alphas[part], pair, corrections[:, part])


def _generate(hash_: Hash, alphas: Words, roots: Words, corrections: Words) -> None:
    """Fill the correction words of one chunk; `roots`: both parties' (2, count, 2)."""
    path = alphas >> np.uint64(_LEAF_BITS)
    children = np.empty((2, *roots.shape), WORD)  # on the path, then off it
    kept, lost = children
    kept[:] = roots
    masks = hash_.scratch[: 2 * alphas.size].reshape(kept.shape)
    control = np.empty((2, alphas.size), WORD)
    control[0], control[1] = 0, 1
    for level, word in enumerate(corrections[:-1]):
        turn = path >> np.uint64(len(corrections) - 2 - level) & _ONE
        kept[..., 0] &= SEED_BITS
        lost[:] = kept
        kept[..., 0] |= turn
        lost[..., 0] |= turn ^ _ONE
        hash_.apply(children.reshape(-1, 2))
        np.bitwise_xor(lost[0], lost[1], out=word)  # makes the seeds off the path equal
        low, own = word[:, 0], turn + _ONE  # the control bit of the child on the path
        low ^= (low ^ ~(kept[0, :, 0] ^ kept[1, :, 0])) & own  # makes its shares opposite
        _correct(kept, control, word, masks)
        np.right_shift(kept[..., 0], turn, out=control)
        np.bitwise_and(control, _ONE, out=control)
    kept[..., 0] = kept[..., 0] & SEED_BITS | LEAF
    hash_.apply(kept.reshape(-1, 2))
    np.bitwise_xor(kept[0], kept[1], out=corrections[-1])
    bit, high = alphas & np.uint64(63), alphas >> np.uint64(6) & _ONE
    corrections[-1, :, 0] ^= (high ^ _ONE) << bit
    corrections[-1, :, 1] ^= high << bit


def prefix_parity(
    party: int, key: bytes, roots: Words, corrections: Words, points: Words
) -> NDArray[np.uint8]:
    """Return this party's XOR shares of 1{alpha <= point}.

    `party`: 0 or 1. `key`: of the hash, 16 bytes. `roots`: (count, 2) uint64, this party's.
    `corrections`: (levels + 1, count, 2) uint64 of `generate`. `points`: (count,) uint64, each in
    the domain: below 2^(levels + 7).

    Returns
    -------
    ndarray
        (count,) uint8 of 0 and 1.
    """
    shares = np.empty(points.size, np.uint8)
    walk = _Walk(party, key)
    for start in range(0, points.size, CHUNK):
        part = slice(start, start + CHUNK)
        shares[part] = walk(roots[part], corrections[:, part], points[part])
    return shares


class _Walk:
    """The way from the root to one leaf in each of up to `CHUNK` trees, all in step."""

    def __init__(self, party: int, key: bytes) -> None:
        self._party = party
        self._hash = Hash(key, CHUNK)
        self._blocks = np.empty((CHUNK, 2), WORD)
        self._vectors = np.empty((3, CHUNK), WORD)

    def __call__(self, roots: Words, corrections: Words, points: Words) -> NDArray[np.uint8]:
        blocks = self._blocks[: points.size]
        turn, control, controls = self._vectors[:, : points.size]
        blocks[:] = roots
        control[:] = controls[:] = self._party
        path, low = points >> np.uint64(_LEAF_BITS), blocks[:, 0]
        for level, word in enumerate(corrections[:-1]):
            np.right_shift(path, np.uint64(len(corrections) - 2 - level), out=turn)
            np.bitwise_and(turn, _ONE, out=turn)
            self._descend(blocks, turn, control, word)
            np.right_shift(low, turn, out=control)
            np.bitwise_and(control, _ONE, out=control)
            np.left_shift(controls, _ONE, out=controls)
            np.bitwise_or(controls, control, out=controls)
        turn[:] = LEAF
        self._descend(blocks, turn, control, corrections[-1])
        below = blocks & _up_to(points)
        left = (controls ^ controls >> _ONE) & path  # of a node and its child, where it is right
        ones: NDArray[np.uint8] = np.bitwise_count(left ^ below[:, 0] ^ below[:, 1])
        return ones & np.uint8(1)

    def _descend(self, blocks: Words, purpose: Words, control: Words, word: Words) -> None:
        """Hash the blocks' seeds for a purpose and correct them where the control bit is 1."""
        low = blocks[:, 0]
        np.bitwise_and(low, SEED_BITS, out=low)
        np.bitwise_or(low, purpose, out=low)
        self._hash.apply(blocks)
        _correct(blocks, control, word, self._hash.scratch[: len(blocks)])


def _correct(blocks: Words, control: Words, word: Words, masks: Words) -> None:
    """XOR the words into the blocks whose control bit is 1; `masks` is overwritten."""
    np.negative(control, out=masks[..., 0])
    np.negative(control, out=masks[..., 1])
    np.bitwise_and(masks, word, out=masks)
    np.bitwise_xor(blocks, masks, out=blocks)


def _up_to(points: Words) -> Words:
    """Return masks of a leaf's bits up to the point's own, (count, 2)."""
    masks = np.empty((points.size, 2), WORD)
    bits = (np.uint64(2) << (points & np.uint64(63))) - _ONE
    high = np.negative(points >> np.uint64(6) & _ONE)
    np.bitwise_or(bits, high, out=masks[:, 0])
    np.bitwise_and(bits, high, out=masks[:, 1])
    return masks
