from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import bind
from primia_flwr.primitives.merkle import Tree, leaf, node, root_of


def leaves(count: int) -> list[bytes]:
    return [leaf(f"s{i}") for i in range(count)]


def sha256(*parts: bytes | str) -> bytes:
    return hashlib.sha256(bind(*parts)).digest()


def test_trees_by_hand() -> None:
    a, b, c = (sha256("primia secagg v1 leaf", name) for name in ("s0", "s1", "s2"))
    assert leaves(3) == [a, b, c]
    ab = sha256("primia secagg v1 node", a, b)
    assert Tree([a]).root == a
    assert Tree([a, b]).root == ab
    three = Tree([a, b, c])
    assert three.root == sha256("primia secagg v1 node", ab, c)
    assert [three.proof(place) for place in range(3)] == [b + c, a + c, ab]


@pytest.mark.parametrize(
    ("count", "longest", "last"), [(1, 0, 0), (2, 1, 1), (5, 3, 1), (8, 3, 3), (100, 7, 4)]
)
def test_lengths_of_proofs(count: int, longest: int, last: int) -> None:
    # the last of 5 moves up twice; the last of 100 at 25 and (13 being odd, too) at 13 and at 7
    tree = Tree(leaves(count))
    hashes = [len(tree.proof(place)) // 32 for place in range(count)]
    assert (max(hashes), hashes[-1]) == (longest, last)


@given(st.integers(1, 70), st.data())
def test_every_place_leads_to_the_root_and_no_other_leaf_does(
    count: int, data: st.DataObject
) -> None:
    tree = Tree(leaves(count))
    place, other = (data.draw(st.integers(0, count - 1)) for _ in range(2))
    proof = tree.proof(place)
    assert root_of(leaf(f"s{place}"), place, count, proof) == tree.root
    assert root_of(leaf("another"), place, count, proof) != tree.root
    if other != place:
        assert Tree(leaves(count)[::-1]).root != tree.root
        with_other = tree.proof(other)
        if len(with_other) == len(proof):
            assert root_of(leaf(f"s{place}"), place, count, with_other) != tree.root


def test_a_node_is_no_leaf() -> None:
    a, b = leaves(2)
    assert node(a, b) != leaf(a, b)


@pytest.mark.parametrize(
    ("place", "count", "size"),
    [(3, 3, 32), (0, 0, 0), (0, 3, 32), (0, 3, 96), (0, 3, 63), (2, 3, 64), (2**63, 2**62, 0)],
)
def test_refuses_a_place_that_is_not_there_or_a_proof_of_another_length(
    place: int, count: int, size: int
) -> None:
    with pytest.raises(ProtocolError, match=f"proof of {size} bytes for place {place} of {count}"):
        root_of(leaf("s0"), place, count, bytes(size))
