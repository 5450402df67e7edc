"""What a client insists on before it takes a step, where everybody masks with everybody.

What it insists on where it has only some neighbours is in `neighbourhood`. Why, is in
docs/secure-aggregation.md.
"""

from collections.abc import Iterable, Mapping

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import PublicKeys, verify
from primia_flwr.secagg.protocol.agreement import (
    LIST_PURPOSE,
    Announcement,
    Masking,
    MemberList,
    Sparse,
)
from primia_flwr.secagg.protocol.parties import Member
from primia_flwr.secagg.protocol.wire import MembershipProof, Names, SharesRequest


class ClientChecks:
    """What one client insists on in one instance; what it refuses ends as `ProtocolError`.

    Parameters
    ----------
    member : Member
        Who the client is, and its floor.
    number : int
        Of the instance.
    """

    def __init__(self, member: Member, number: int) -> None:
        self.member, self.number = member, number

    # --- What was told, as it was told ------------------------------------------------------

    def announcement(self, request: SharesRequest) -> Announcement:
        """Return U1 as announced; only its form is checked."""
        self._refuse_membership_proof(request.membership_proof)
        return self._announcement_on(request, None)

    def _announcement_on(self, request: SharesRequest, sparse: Sparse | None) -> Announcement:
        keys = {name: PublicKeys.from_bytes(raw) for name, raw in request.keys.items()}
        return Announcement(self.member.session, self.number, request.threshold, keys, sparse)

    def member_list(self, names: Names, membership_proof: MembershipProof | None) -> MemberList:
        """Return a list of clients as announced."""
        self._refuse_membership_proof(membership_proof)
        return MemberList.of_all(names)

    def _refuse_membership_proof(self, membership_proof: MembershipProof | None) -> None:
        if membership_proof is not None:
            raise self.refusal("a membership proof", "all of it: the graph is complete")

    # --- Whether it is good enough ----------------------------------------------------------

    def accept(self, request: SharesRequest, own: PublicKeys) -> Announcement:
        """Check U1 and the threshold; `own`: the keys that this client sent."""
        me, announced = self.member, self.announcement(request)
        announced.verify()
        if announced.keys.get(me.name) != own:
            raise self.refusal("its own keys altered or left out of U1", "them as it sent them")
        if announced.count < me.floor.min_survivors:
            raise self.refusal(
                f"U1 of {announced.count} sites", f"at least min_survivors={me.floor.min_survivors}"
            )
        holders = len(announced.holders(me.name))
        least, why = self.least_threshold(announced, holders)
        if not least <= announced.threshold <= holders:
            raise self.refusal(f"threshold={announced.threshold}", f"{least} to {holders}: {why}")
        return announced

    def least_threshold(self, announced: Announcement, holders: int) -> tuple[int, str]:
        """Return the least threshold that this client accepts, and what it is."""
        floor = self.member.floor
        return floor.least_threshold(holders), (
            f"more than half of the {holders} holders of a secret, with {floor.max_colluding} of "
            "them and one more colluding"
        )

    def check_members(self, masking: Masking) -> None:
        """Check U2."""
        announced, members, me = masking.announcement, masking.members, self.member
        strangers = members.those - announced.near(me.name) - {me.name}
        if strangers:
            raise self.refusal(f"U2 with {listed(strangers)}", "only members of U1")
        if me.name not in members.those:
            raise self.refusal("U2 without itself", "itself in it, whose shares were sent")
        near, least = len(masking.partners(me.name)) + 1, me.floor.min_survivors
        if not least <= members.count <= announced.count or near < announced.threshold:
            raise self.refusal(
                f"U2 of {members.count} sites, {near} of them near",
                f"at least {least} of the {announced.count} in U1, and "
                f"threshold={announced.threshold} near",
            )

    def check_survivors(self, masking: Masking, survivors: MemberList) -> None:
        """Check a list of survivors but for the signatures on it."""
        announced, members, me = masking.announcement, masking.members, self.member
        strangers = survivors.those - members.those
        if strangers:
            raise self.refusal(f"survivors with {listed(strangers)}", "only members of U2")
        if me.name not in survivors.those:
            raise self.refusal("survivors without itself", "itself, whose vector was sent")
        near, least = len(survivors.names), me.floor.min_survivors
        if survivors.count < least or near < announced.threshold:
            raise self.refusal(
                f"{survivors.count} survivors, {near} of them near",
                f"at least min_survivors={least}, and threshold={announced.threshold} near",
            )

    def check_signatures(
        self, masking: Masking, survivors: MemberList, signatures: Mapping[str, bytes]
    ) -> None:
        """Insist on enough clients behind a list with drops: see `least_signatures`."""
        members = masking.members
        strangers = signatures.keys() - members.those
        if strangers:
            raise self.refusal(f"signatures of {listed(strangers)}", "only those of U2")
        least = self.least_signatures(masking.announcement)
        if len(signatures) < least:
            gone = listed(members.those - survivors.those)
            raise self.refusal(
                f"{len(signatures)} signatures on a survivor list without {gone}",
                f"at least {least}",
            )
        parts = masking.list_parts(survivors.label)
        for name, signature in signatures.items():
            verify(self.member.session.identity(name), signature, LIST_PURPOSE, *parts)

    def least_signatures(self, announced: Announcement) -> int:
        """Return how many: as many as rebuild a secret, more than half: no two lists have them."""
        return self.member.floor.least_threshold(announced.count)

    def refusal(self, found: str, expected: str) -> ProtocolError:
        """Return the error that says what this client refuses."""
        return ProtocolError(
            f"{self.member.name} refuses {found} in instance {self.number}; expected {expected}"
        )


def listed(names: Iterable[str]) -> str:
    """Return names for an error."""
    return ", ".join(sorted(names)) or "nobody"
