"""A hash tree over a list: its root stands for the list, and a short proof for one place in it.

Leaves are hashed in pairs, the results in pairs again; the last of an odd number moves up as it
is. Of n leaves a proof has at most ceil(log2 n) hashes. The root does not say how many leaves
there are, so whoever binds something to it binds their number too.

Source: RFC 9162, section 2.1 (the same tree; leaves and nodes are told apart by their purpose).
"""

from collections.abc import Sequence

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import Part, digest

_HASH_BYTES = 32


def leaf(*parts: Part) -> bytes:
    """Return the hash of a list's entry."""
    return digest("primia secagg v1 leaf", *parts)


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of two hashes."""
    return digest("primia secagg v1 node", left, right)


class Tree:
    """The tree over at least one leaf; leaves are what `leaf` gives."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_above(self._levels[-1]))

    @property
    def root(self) -> bytes:
        """What stands for all leaves in their order."""
        return self._levels[-1][0]

    def proof(self, place: int) -> bytes:
        """Return the hashes that lead from a leaf to the root, one after the other."""
        found = []
        for level in self._levels[:-1]:
            found += level[place ^ 1 : (place ^ 1) + 1]
            place //= 2
        return b"".join(found)


def _above(level: list[bytes]) -> list[bytes]:
    pairs = [node(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[2 * len(pairs) :]


def root_of(entry: bytes, place: int, count: int, proof: bytes) -> bytes:
    """Return the root of a tree of `count` leaves that has this one at a place, by its proof.

    Raises
    ------
    ProtocolError
        If there is no such place, or its proof has another length.
    """
    siblings = _siblings(place, count)
    if place >= count or len(proof) != _HASH_BYTES * len(siblings):
        raise ProtocolError(
            f"a proof of {len(proof)} bytes for place {place} of {count}; expected a place below "
            f"{count}, and {_HASH_BYTES * len(siblings)} bytes"
        )
    found = entry
    for i, is_left in enumerate(siblings):
        other = proof[_HASH_BYTES * i : _HASH_BYTES * (i + 1)]
        found = node(other, found) if is_left else node(found, other)
    return found


def _siblings(place: int, count: int) -> list[bool]:
    """Say of each hash of a proof whether it goes to the left."""
    found = []
    while count > 1:
        if place ^ 1 < count:
            found.append(place % 2 == 1)
        place, count = place // 2, (count + 1) // 2
    return found
