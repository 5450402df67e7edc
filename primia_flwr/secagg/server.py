"""The server's side of one instance: it carries what it cannot read, adds, and takes off the masks.

    keys -> announce -> shares -> members -> vectors -> (signatures) -> shares -> the sum

Nothing here is trusted by the clients: each checks on its own what it is told.

Source: Bonawitz et al. 2017 (ePrint 2017/281), figure 4.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.agreement import (
    LIST_PURPOSE,
    Announcement,
    Mask,
    Masking,
    apply,
    commitment,
)
from primia_flwr.secagg.graph import is_connected
from primia_flwr.secagg.keys import KeyPair, PublicKeys, verify
from primia_flwr.secagg.masks import Vector
from primia_flwr.secagg.parties import Floor, Session
from primia_flwr.secagg.shamir import Interpolation
from primia_flwr.secagg.wire import (
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
        Of a sparse graph.
    """

    def __init__(
        self, session: Session, number: int, floor: Floor, *, degree: int | None = None
    ) -> None:
        self.number = number
        self.floor = floor
        self._session, self._degree = session, degree
        self._keys: dict[str, PublicKeys] = {}
        self._announced: Announcement | None = None
        self._sealed: dict[str, SharesReply] = {}
        self._masking: Masking | None = None
        self._sums: list[Vector] | None = None
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

    @property
    def announced(self) -> bool:
        """Whether U1 is fixed."""
        return self._announced is not None

    def announce(self) -> SharesRequest:
        """Fix U1 and the threshold.

        Raises
        ------
        ProtocolError
            If too few clients sent keys.
        """
        if len(self._keys) < self.floor.min_survivors:
            raise self._too_few("sent keys", self._keys)
        everybody = Announcement(self._session, self.number, 0, self._keys, self._degree)
        holders = len(everybody.holders(min(self._keys)))
        threshold = self.floor.least_threshold(holders)
        self._announced = Announcement(
            self._session, self.number, threshold, dict(self._keys), self._degree
        )
        return SharesRequest(
            self.number, threshold, {n: k.to_bytes() for n, k in sorted(self._keys.items())}
        )

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
        return self._masking.members if self._masking else ()

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

    def begin_sum(self, told: bytes) -> dict[str, MaskRequest]:
        """Fix U2, and what its members are told; return what to send to each.

        Raises
        ------
        ProtocolError
            If U2 is too small.
        """
        announced, members = self._announcement, self.with_shares
        if len(members) < self.floor.min_survivors:
            raise self._too_few("sent shares", members)
        self._masking = Masking(announced, members, told)
        return {
            name: MaskRequest(
                self.number,
                members,
                {peer: self._sealed[peer].sealed[name] for peer in self._masking.partners(name)},
            )
            for name in members
        }

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
        if name not in self._mask_terms.members or name in self._heard:
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

    @property
    def survivors(self) -> Names:
        """Whose vectors are in the sum, sorted."""
        return tuple(sorted(self._heard))

    @property
    def dropped(self) -> Names:
        """Members of U2 whose vectors did not come, sorted."""
        return tuple(name for name in self._mask_terms.members if name not in self._heard)

    @property
    def can_unmask(self) -> bool:
        """Whether enough clients survived to take the masks off."""
        announced = self._announcement
        near = [
            len(announced.graph[name] & set(self._heard)) + (name in self._heard)
            for name in self._mask_terms.members
        ]
        enough = len(self._heard) >= self.floor.min_survivors
        return enough and min(near) >= announced.threshold and self._connected()

    def _connected(self) -> bool:
        return is_connected(self._announcement.graph, self._heard)

    # --- Survivors and shares ---------------------------------------------------------------

    def sign_request(self) -> SignRequest | None:
        """Return the list to be signed; None where nobody dropped and it is answered at once."""
        return SignRequest(self.number, self.survivors) if self.dropped else None

    def add_signature(self, name: str, reply: SignReply) -> None:
        """Take a client's signature on the survivor list.

        Raises
        ------
        ProtocolError
            If it is not one.
        """
        parts = self._mask_terms.list_parts(self.survivors)
        verify(self._session.identity(name), reply.signature, LIST_PURPOSE, *parts)
        self._signatures[name] = reply.signature

    @property
    def signed(self) -> bool:
        """Whether enough clients signed the list, if it needs signatures at all."""
        least = self.floor.least_threshold(len(self._announcement.keys))
        return not self.dropped or len(self._signatures) >= least

    def unmask_request(self) -> UnmaskRequest:
        """Return what to send to each survivor."""
        return UnmaskRequest(self.number, self.survivors, dict(sorted(self._signatures.items())))

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
        masks = [self._self_mask(name) for name in self.survivors]
        for name in self.dropped:
            masks += self._pair_masks(name)
        apply([mask.negated() for mask in masks], self._sums, threads=threads)
        totals, self._sums = self._sums, None
        return totals

    def _self_mask(self, name: str) -> Mask:
        shares = {
            by: reply.seeds[name] for by, reply in self._released.items() if name in reply.seeds
        }
        seed = self._rebuild(name, shares)
        if commitment(seed) != self._sealed[name].commitment:
            raise self._wrong(name, "self-mask seed")
        return self._mask_terms.self_mask(name, seed)

    def _pair_masks(self, name: str) -> list[Mask]:
        """Return the masks that the survivors added because of a client that dropped out."""
        masking = self._mask_terms
        shares = {
            by: reply.mask_keys[name]
            for by, reply in self._released.items()
            if name in reply.mask_keys
        }
        pair = KeyPair.from_private(self._rebuild(name, shares))
        if pair.public != self._announcement.keys[name].masking:
            raise self._wrong(name, "masking key")
        heard = [peer for peer in masking.partners(name) if peer in self._heard]
        return [masking.pair_mask(name, pair, peer).negated() for peer in heard]

    def _rebuild(self, name: str, shares: dict[str, bytes]) -> bytes:
        announced = self._announcement
        if len(shares) < announced.threshold:
            raise ProtocolError(
                f"{len(shares)} shares of a secret of {name}; expected at least "
                f"threshold={announced.threshold}"
            )
        xs = announced.holders(name)
        by_x = {xs[holder]: share for holder, share in shares.items()}
        return Interpolation(sorted(by_x)[: announced.threshold]).combine(by_x)

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

    def _wrong(self, name: str, secret: str) -> ProtocolError:
        return ProtocolError(
            f"the {secret} of {name}, rebuilt from shares, is not the one it shared; a site "
            "released a wrong share, or sealed wrong ones"
        )


def _shapes(vectors: Sequence[Vector]) -> list[str]:
    return [f"{vector.dtype}{list(vector.shape)}" for vector in vectors]
