"""Lists of clients as the server tells them: all of a list to all, or to each what is near.

How a client checks what it is told is in `demands` and `neighbourhood`.
"""

from collections.abc import Mapping

from primia_flwr.primitives.keys import PublicKeys, digest
from primia_flwr.primitives.merkle import Tree, leaf
from primia_flwr.secagg.protocol.agreement import Announcement, MemberList, Sparse
from primia_flwr.secagg.protocol.graph import neighbours
from primia_flwr.secagg.protocol.parties import Floor, Session
from primia_flwr.secagg.protocol.wire import VERSION, MembershipProof, Names, SharesRequest


def keys_leaf(name: str, keys: bytes) -> bytes:
    """Return a client's leaf of the tree over U1."""
    return leaf("keys", name, keys)


def name_leaf(name: str) -> bytes:
    """Return a client's leaf of the tree over U2 or the survivors."""
    return leaf("name", name)


class _Directory:
    """A Merkle tree over a list of clients, by sorted name; see `MembershipProof`."""

    def __init__(self, leaves: Mapping[str, bytes]) -> None:
        self._places = {name: place for place, name in enumerate(sorted(leaves))}
        self._tree = Tree([leaves[name] for name in self._places])
        self.size, self.root = len(leaves), self._tree.root

    def membership_proof(self, name: str) -> MembershipProof:
        """Return what a client is told of the list."""
        place = self._places[name]
        return MembershipProof(self.size, place, self.root, self._tree.proof(place))


class Told:
    """U2 or the survivors, as each client is told.

    Parameters
    ----------
    announced : Announcement
        U1 as the server has it.
    names : tuple of str
        Of all on the list, sorted.
    """

    def __init__(self, announced: Announcement, names: Names) -> None:
        self._announced = announced
        self.member_list, self._directory = MemberList.of_all(names), None
        if announced.sparse and names:
            self._directory = _Directory({name: name_leaf(name) for name in names})
            self.member_list = MemberList.of_near(names, len(names), self._directory.root)

    def to(self, name: str) -> tuple[Names, MembershipProof | None]:
        """Return what a client on the list is told of it."""
        if self._directory is None:
            return self.member_list.names, None
        near = self._announced.near(name) & self.member_list.those
        return tuple(sorted({name, *near})), self._directory.membership_proof(name)


def announce(
    session: Session, number: int, floor: Floor, keys: Mapping[str, PublicKeys], degree: int | None
) -> tuple[Announcement, dict[str, SharesRequest]]:
    """Fix U1 and the threshold; return them, and what to send to each.

    The order of the ring follows from all keys, which are new in each instance: nobody knows it
    before U1 is fixed.
    """
    raw = {name: keys[name].to_bytes() for name in sorted(keys)}
    if degree is None:
        threshold = floor.least_threshold(len(raw))
        announced = Announcement(session, number, threshold, dict(keys))
        return announced, dict.fromkeys(raw, SharesRequest(number, threshold, raw))
    return _announce_sparse(session, number, floor, keys, degree)


def _announce_sparse(
    session: Session, number: int, floor: Floor, keys: Mapping[str, PublicKeys], degree: int
) -> tuple[Announcement, dict[str, SharesRequest]]:
    """Fix the graph of U1 as well; each client is told its own neighbours only."""
    raw = {name: keys[name].to_bytes() for name in sorted(keys)}
    directory = _Directory({name: keys_leaf(name, both) for name, both in raw.items()})
    threshold = floor.sparse_threshold(directory.size, degree)
    seed = digest(f"{VERSION} ring", session.run, number, directory.size, directory.root)
    graph = neighbours(list(raw), degree, seed)
    sparse = Sparse(degree, directory.size, directory.root, graph)
    announced = Announcement(session, number, threshold, dict(keys), sparse)
    requests = {}
    for name, near in graph.items():
        shown = {peer: raw[peer] for peer in sorted({name, *near})}
        requests[name] = SharesRequest(number, threshold, shown, directory.membership_proof(name))
    return announced, requests
