"""What a client of a sparse graph insists on, which is shown its neighbours and no others.

Of every list of clients (U1, U2, the survivors) it gets a membership proof: those near it, how many
there are in all, the root of a Merkle tree over all, and the proof that it is among them itself. So
what it gets and does grows with its neighbours and log n, both O(log n), and not with n. The
root and the number are bound like the whole list on the complete graph: into the masks, the
sealed shares and the signatures. Clients that are told of different lists have masks that do
not cancel.

It cannot check that all keys under the root are signed, that the graph is the one that follows
from them, that its neighbours are in the lists, nor that the survivors are connected. The server
sees to these, and it is trusted to keep to the protocol: a sparse graph holds against an
honest-but-curious server only. For the same reason a list with drops needs as many signatures
as shares rebuild a secret, from the client's neighbourhood, and not those of more than half of
all, which cannot be shown in O(log n). Neighbours that were told different lists by mistake
notice it so; against a server that lies it proves nothing. docs/adr/0008-neighbours-only.md.

Source: Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead".
"""

from primia_flwr.primitives.keys import PublicKeys
from primia_flwr.primitives.merkle import root_of
from primia_flwr.secagg.protocol.agreement import Announcement, Masking, MemberList, Sparse
from primia_flwr.secagg.protocol.client_checks import ClientChecks
from primia_flwr.secagg.protocol.membership import keys_leaf, name_leaf
from primia_flwr.secagg.protocol.parties import Member
from primia_flwr.secagg.protocol.wire import MembershipProof, Names, SharesRequest


class Neighbourhood(ClientChecks):
    """What one client of a sparse graph insists on.

    Parameters
    ----------
    member : Member
        Who the client is, and its floor.
    number : int
        Of the instance.
    degree : int
        Neighbours of each client, as the experiment says.
    """

    def __init__(self, member: Member, number: int, degree: int) -> None:
        super().__init__(member, number)
        self._degree = degree

    def announcement(self, request: SharesRequest) -> Announcement:
        """Return U1 as announced; only its form is checked."""
        given = self._shown(request.membership_proof)
        sparse = Sparse(self._degree, given.size, given.root)
        return self._announcement_on(request, sparse)

    def member_list(self, names: Names, membership_proof: MembershipProof | None) -> MemberList:
        """Return a list of clients as announced, on which this client is for certain."""
        given = self._placed(membership_proof, name_leaf(self.member.name))
        return MemberList.of_near(names, given.size, given.root)

    def accept(self, request: SharesRequest, own: PublicKeys) -> Announcement:
        """Check the part of U1 that is near, and the threshold."""
        me, session = self.member.name, self.member.session
        given = self._placed(request.membership_proof, keys_leaf(me, own.to_bytes()))
        if given.size > len(session.identities):
            raise self.refusal(
                f"U1 of {given.size} sites", f"at most the {len(session.identities)} of the roster"
            )
        near = len(request.keys.keys() - {me})
        expected = min(self._degree, given.size - 1)
        if near != expected:
            raise self.refusal(
                f"{near} neighbours besides itself", f"{expected}, as degree={self._degree} says"
            )
        return super().accept(request, own)

    def least_threshold(self, announced: Announcement, holders: int) -> tuple[int, str]:
        """Return the least threshold that this client accepts, and what it is."""
        floor = self.member.floor
        return floor.sparse_threshold(announced.count, self._degree), (
            f"more than the neighbours of any client among the {floor.max_colluding} colluding and "
            "one more"
        )

    def check_survivors(self, masking: Masking, survivors: MemberList) -> None:
        """Check the part of a list that is near, and whether it fits what it says of the rest."""
        super().check_survivors(masking, survivors)
        members = masking.members
        gone = members.count - survivors.count
        near_gone = len(members.names) - len(survivors.names)
        if near_gone > gone or (gone == 0) != (survivors.label == members.label):
            raise self.refusal(
                f"{survivors.count} survivors of {members.count} sites in U2, {near_gone} of "
                "those missing near",
                "a part of U2, the same list where nobody is missing",
            )

    def least_signatures(self, announced: Announcement) -> int:
        """Return how many: as many as rebuild a secret."""
        return announced.threshold

    def _shown(self, membership_proof: MembershipProof | None) -> MembershipProof:
        if membership_proof is None:
            raise self.refusal("a list without a membership proof", "one: the graph is sparse")
        return membership_proof

    def _placed(self, membership_proof: MembershipProof | None, own_leaf: bytes) -> MembershipProof:
        """Check that this client is on the list that the root stands for."""
        given = self._shown(membership_proof)
        if root_of(own_leaf, given.place, given.size, given.proof) != given.root:
            raise self.refusal(
                f"a list in which it is not at place {given.place} of {given.size} as it is",
                "itself among those that the root stands for, with its own keys",
            )
        return given
