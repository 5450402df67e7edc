"""The server's side of one instance: it carries what it cannot read, adds, and takes off the masks.

    keys -> announce -> shares -> members -> vectors -> (signatures) -> shares -> the sum

Nothing here is trusted by the clients: each checks on its own what it is told.

Source: Bonawitz et al. 2017 (ePrint 2017/281), figure 4.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import PublicKeys, verify
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.agreement import LIST_PURPOSE, Announcement, Masking, apply
from primia_flwr.secagg.protocol.graph import is_connected
from primia_flwr.secagg.protocol.membership import Told, announce
from primia_flwr.secagg.protocol.parties import Floor, Session
from primia_flwr.secagg.protocol.recovery import Recovery
from primia_flwr.secagg.protocol.wire import (
    KeysReply,
    MaskRequest,
    Names,
    SharesReply,
    SharesRequest,
    SignReply,
    SignRequest,
    UnmaskReply,
    UnmaskRequest,
)

_R = TypeVar("_R")


class ServerInstance:
    """One instance as the server sees it.

    Parameters
    ----------
    session : Session
        Run and roster.
    number : int
        Of the instance; above all others of the run.
    floor : Floor
        The experiment's: what it expects the sites to insist on at least.
    degree : int, optional
        Of a sparse graph; the clients' own.
    """

    def __init__(
        self, session: Session, number: int, floor: Floor, *, degree: int | None = None
    ) -> None:
        self.number = number
        self.floor = floor
        self._session, self.degree = session, degree
        self._keys: dict[str, PublicKeys] = {}
        self._announced: Announcement | None = None
        self._sealed: dict[str, SharesReply] = {}
        self._masking: Masking | None = None
        self._sums: list[Vector] | None = None
        self._list: Told | None = None
        self._heard: dict[str, None] = {}  # in order, and quick to look up
        self._signatures: dict[str, bytes] = {}
        self._released: dict[str, UnmaskReply] = {}

    # --- Keys and shares --------------------------------------------------------------------

    def add_keys(self, name: str, reply: KeysReply) -> None:
        """Take a client's keys for this instance.

        Raises
        ------
        ProtocolError
            If they are not the client's, or not for this instance.
        """
        keys = PublicKeys.from_bytes(reply.keys)
        Announcement(self._session, self.number, 0, {name: keys}).verify()
        self._keys[name] = keys

    @property
    def with_keys(self) -> Names:
        """Whose keys came, sorted."""
        return tuple(sorted(self._keys))

    def announce(self) -> dict[str, SharesRequest]:
        """Fix U1 and the threshold; return what to send to each client in U1.

        Raises
        ------
        ProtocolError
            If too few clients sent keys.
        """
        if len(self._keys) < self.floor.min_survivors:
            raise self._too_few("sent keys", self._keys)
        self._announced, requests = announce(
            self._session, self.number, self.floor, self._keys, self.degree
        )
        return requests

    def add_shares(self, name: str, reply: SharesReply) -> None:
        """Take the shares that a client sealed for its neighbours.

        Raises
        ------
        ProtocolError
            If they are not one for each neighbour.
        """
        announced = self._announcement
        if name not in announced.keys:
            raise ProtocolError(f"shares of {name!r}, which is not in U1")
        if tuple(reply.sealed) != announced.peers(name):
            raise ProtocolError(
                f"{name} sealed shares for {', '.join(reply.sealed) or 'nobody'}; expected one "
                f"for each of {', '.join(announced.peers(name))}"
            )
        self._sealed[name] = reply

    @property
    def with_shares(self) -> Names:
        """Whose shares came, sorted: U2."""
        return tuple(sorted(self._sealed))

    @property
    def members(self) -> Names:
        """U2 once it is fixed, sorted; before, nobody."""
        return self._masking.members.names if self._masking else ()

    @property
    def threshold(self) -> int:
        """Shares that rebuild a secret; 0 before U1 is fixed."""
        return self._announced.threshold if self._announced else 0

    @property
    def neighbours(self) -> int:
        """The fewest peers with which a member of U2 shares masks; 0 before U2 is fixed."""
        if self._masking is None:
            return 0
        return min(len(self._masking.partners(name)) for name in self.members)

    @property
    def num_signatures(self) -> int:
        """How many clients signed the survivor list."""
        return len(self._signatures)

    # --- Masked vectors ---------------------------------------------------------------------

    def begin_sum(self, transcript: bytes) -> dict[str, MaskRequest]:
        """Fix U2, and what its members are told; return what to send to each.

        Raises
        ------
        ProtocolError
            If U2 is too small.
        """
        announced, members = self._announcement, self.with_shares
        if len(members) < self.floor.min_survivors:
            raise self._too_few("sent shares", members)
        listed = Told(announced, members)
        masking = self._masking = Masking(announced, listed.member_list, transcript)
        requests = {}
        for name in members:
            sealed = {peer: self._sealed[peer].sealed[name] for peer in masking.partners(name)}
            shown, membership_proof = listed.to(name)
            requests[name] = MaskRequest(self.number, shown, sealed, membership_proof)
        return requests

    def add_vectors(self, name: str, vectors: Sequence[Vector]) -> None:
        """Add a client's masked vectors to the sums.

        Parameters
        ----------
        name : str
            A member of U2 that was not heard yet.
        vectors : sequence of ndarray
            uint32 or uint64, like the others'; they are not changed.

        Raises
        ------
        ProtocolError
            If the client or a vector is not as described.
        """
        if name not in self._mask_terms.members.those or name in self._heard:
            raise ProtocolError(f"vectors of {name!r}; expected one reply of each member of U2")
        found = _shapes(vectors)
        if self._sums is None:
            self._sums = [vector.copy() for vector in vectors]
        elif found != _shapes(self._sums):
            raise ProtocolError(f"{name}: vectors {found}; expected {_shapes(self._sums)}")
        else:
            for total, vector in zip(self._sums, vectors, strict=True):
                np.add(total, vector, out=total)
        self._heard[name] = None
        self._list = None

    @property
    def survivors(self) -> Names:
        """Whose vectors are in the sum, sorted."""
        return tuple(sorted(self._heard))

    @property
    def dropped(self) -> Names:
        """Members of U2 whose vectors did not come, sorted."""
        return tuple(name for name in self._mask_terms.members.names if name not in self._heard)

    @property
    def can_unmask(self) -> bool:
        """Whether enough clients survived to take the masks off."""
        if len(self._heard) < self.floor.min_survivors:
            return False
        announced, heard = self._announcement, self._heard.keys()
        near = [
            len(announced.near(name) & heard) + (name in heard)
            for name in self._mask_terms.members.names
        ]
        return min(near) >= announced.threshold and self._connected()

    def _connected(self) -> bool:
        """Say whether the sum is of all survivors only; on a sparse graph no client can know."""
        sparse = self._announcement.sparse
        if sparse is None or sparse.graph is None:
            return True
        return is_connected(sparse.graph, self._heard)

    # --- Survivors and shares ---------------------------------------------------------------

    def sign_requests(self) -> dict[str, SignRequest]:
        """Return to whom to send the list to be signed; nobody where it is answered at once."""
        if not self.dropped:
            return {}
        listed = self._listed
        return self._to_survivors(lambda name: SignRequest(self.number, *listed.to(name)))

    def add_signature(self, name: str, reply: SignReply) -> None:
        """Take a client's signature on the survivor list.

        Raises
        ------
        ProtocolError
            If it is not one.
        """
        parts = self._mask_terms.list_parts(self._listed.member_list.label)
        verify(self._session.identity(name), reply.signature, LIST_PURPOSE, *parts)
        self._signatures[name] = reply.signature

    @property
    def signed(self) -> bool:
        """Whether every survivor can be shown enough signatures, if the list needs any at all."""
        if not self.dropped:
            return True
        shown = self._to_survivors(self._signatures_for)
        return min(map(len, shown.values()), default=0) >= self._announcement.threshold

    def unmask_requests(self) -> dict[str, UnmaskRequest]:
        """Return what to send to each survivor."""
        listed = self._listed

        def request(name: str) -> UnmaskRequest:
            shown, membership_proof = listed.to(name)
            return UnmaskRequest(self.number, shown, self._signatures_for(name), membership_proof)

        return self._to_survivors(request)

    def _to_survivors(self, message: Callable[[str], _R]) -> dict[str, _R]:
        """Make what each survivor gets: one for all on the complete graph."""
        survivors = self.survivors
        if self._announcement.sparse is None and survivors:
            return dict.fromkeys(survivors, message(survivors[0]))
        return {name: message(name) for name in survivors}

    def _signatures_for(self, name: str) -> dict[str, bytes]:
        """Return the signatures that a survivor is shown: its neighbours' and its own."""
        near = self._announcement.holders(name)
        return {by: self._signatures[by] for by in near if by in self._signatures}

    def add_release(self, name: str, reply: UnmaskReply) -> None:
        """Take the shares that a survivor releases.

        Raises
        ------
        ProtocolError
            If they are not those that were asked for.
        """
        if name not in self._heard:
            raise ProtocolError(f"shares released by {name!r}, which is not a survivor")
        masking = self._mask_terms
        near = {name, *masking.partners(name)}
        seeds = {peer for peer in near if peer in self._heard}
        if set(reply.seeds) != seeds or set(reply.mask_keys) != near - seeds:
            raise ProtocolError(
                f"{name} released seeds of {', '.join(reply.seeds)} and mask keys of "
                f"{', '.join(reply.mask_keys) or 'nobody'}; expected those of the survivors and "
                "of the dropped"
            )
        self._released[name] = reply

    def unmask(self, *, threads: int = 1) -> list[Vector]:
        """Take all masks off and return the sums of the survivors' vectors.

        Raises
        ------
        ProtocolError
            If too few shares came, or a secret rebuilt from them is not the one that was shared.
        """
        if self._sums is None:
            raise self._too_few("sent vectors", ())
        commitments = {name: reply.commitment for name, reply in self._sealed.items()}
        masks = Recovery(self._mask_terms, self._heard, self._released, commitments).masks()
        apply([mask.negated() for mask in masks], self._sums, threads=threads)
        totals, self._sums = self._sums, None
        return totals

    @property
    def _listed(self) -> Told:
        """The survivors, as each of them is told."""
        if self._list is None:
            self._list = Told(self._announcement, self.survivors)
        return self._list

    @property
    def _announcement(self) -> Announcement:
        if self._announced is None:
            raise ProtocolError(f"instance {self.number}: U1 has not been announced yet")
        return self._announced

    @property
    def _mask_terms(self) -> Masking:
        if self._masking is None:
            raise ProtocolError(f"instance {self.number}: U2 has not been fixed yet")
        return self._masking

    def _too_few(self, what: str, names: Iterable[str]) -> ProtocolError:
        there = sorted(names)
        return ProtocolError(
            f"only {len(there)} sites {what} ({', '.join(there) or 'none'}); expected at least "
            f"min_survivors={self.floor.min_survivors}"
        )


def _shapes(vectors: Sequence[Vector]) -> list[str]:
    return [f"{vector.dtype}{list(vector.shape)}" for vector in vectors]
