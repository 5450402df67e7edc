"""A client's side of one instance: five steps, each taken once and in order.

    begin -> share -> mask -> (sign) -> release

A step that finds anything amiss raises `ProtocolError` and gives nothing away; the instance
is then spent. What the client insists on, and why, is in docs/secure-aggregation.md.

Source: Bonawitz et al. 2017 (ePrint 2017/281), figure 4, with the changes of that page.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import InstanceKeys, KeyPair, PublicKeys, sign
from primia_flwr.primitives.shamir import split
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.agreement import (
    LIST_PURPOSE,
    Announcement,
    Masking,
    apply,
    commitment,
)
from primia_flwr.secagg.protocol.client_checks import ClientChecks, listed
from primia_flwr.secagg.protocol.parties import Member
from primia_flwr.secagg.protocol.sealing import open_sealed, seal
from primia_flwr.secagg.protocol.sparse_checks import Neighbourhood
from primia_flwr.secagg.protocol.wire import (
    ClientState,
    KeysReply,
    MaskRequest,
    MembershipProof,
    Names,
    SharesReply,
    SharesRequest,
    SignReply,
    SignRequest,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
)
from primia_flwr.secagg.state.journal import Journal

_SECRET_BYTES = 32
_T = TypeVar("_T")


class Phase(IntEnum):
    """The last step taken; SPENT also after a refusal."""

    BEGUN = 0
    SHARED = 1
    MASKED = 2
    SIGNED = 3
    SPENT = 4


@dataclass(frozen=True)
class PeerShares:
    """A client's share of another's self-mask seed and of its private masking key."""

    seed: bytes
    mask_key: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> "PeerShares":
        """Split what was sealed: both shares, 64 bytes."""
        if len(raw) != 2 * _SECRET_BYTES:
            raise ProtocolError(f"sealed shares of {len(raw)} bytes; expected {2 * _SECRET_BYTES}")
        return cls(raw[:_SECRET_BYTES], raw[_SECRET_BYTES:])


class ClientInstance:
    """One client in one instance.

    Parameters
    ----------
    member : Member
        Who the client is and what it insists on.
    number : int
        The instance's; the caller never begins one that is not above all it has seen.
    degree : int, optional
        Of the sparse graph, if the experiment has one.
    """

    def __init__(self, member: Member, number: int, *, degree: int | None = None) -> None:
        self.number = number
        self.phase = Phase.BEGUN
        self._member = member
        self._degree = degree
        self._demands = (
            Neighbourhood(member, number, degree) if degree else ClientChecks(member, number)
        )
        self._keys: InstanceKeys | None = InstanceKeys.generate()
        self._seed = secrets.token_bytes(_SECRET_BYTES)
        self._request = b""
        self._announced: Announcement | None = None
        self._masking: Masking | None = None
        self._proof: MembershipProof | None = None  # of U2
        self._held: dict[str, PeerShares] = {}
        self._signed: Names = ()
        self._bases: tuple[bytes, ...] = ()
        self._terms = b""  # of the run in which it masked

    @property
    def needs_own_shares(self) -> bool:
        """Whether nothing of the instance is opened without this client: all have to help."""
        announced = self._announced
        return announced is not None and announced.threshold >= len(
            announced.holders(self._member.name)
        )

    def public_keys(self) -> PublicKeys:
        """Return this client's keys for the instance, signed."""
        me = self._member
        return _known(self._keys).advertise(
            me.identity, run=me.session.run, instance=self.number, sender=me.name
        )

    def begin(self) -> KeysReply:
        """Return the public keys as a message."""
        return KeysReply(self.public_keys().to_bytes())

    def share(self, request: SharesRequest) -> SharesReply:
        """Check U1 and the threshold; return sealed shares of both secrets for each neighbour."""
        with self._step(request.instance, Phase.BEGUN, Phase.SHARED):
            announced = self._demands.accept(request, self.public_keys())
            me, keys = self._member.name, _known(self._keys)
            holders = announced.holders(me)
            xs, threshold = list(holders.values()), announced.threshold
            seeds = split(self._seed, threshold, xs)
            mask_keys = split(keys.masking.private_bytes(), threshold, xs)
            shares = {n: PeerShares(seeds[x], mask_keys[x]) for n, x in holders.items()}
            self._held = {me: shares[me]}
            self._announced, self._request = announced, encode(request)
            sealed = {
                peer: self._sealed(announced, peer, shares[peer]) for peer in announced.peers(me)
            }
            return SharesReply(sealed, commitment(self._seed))

    def _sealed(self, announced: Announcement, peer: str, share: PeerShares) -> bytes:
        """Return a neighbour's shares, sealed for it."""
        me = self._member.name
        return seal(
            _known(self._keys).sealing.agree(announced.keys[peer].sealing),
            share.seed + share.mask_key,
            sender=me,
            receiver=peer,
            associated=announced.sealing_context(me, peer),
        )

    def mask(
        self,
        request: MaskRequest,
        vectors: Sequence[Vector],
        *,
        transcript: bytes,
        bases: Sequence[bytes],
        terms: bytes = b"",
        threads: int = 1,
    ) -> None:
        """Check U2, open what was sealed for this client, and mask the vectors in place.

        Parameters
        ----------
        request : MaskRequest
            U2 and the shares from it.
        vectors : sequence of ndarray
            uint32 or uint64: what is to be added up.
        told : bytes
            Digest of all else the client was told for this round.
        bases : sequence of bytes
            Digests of what the vectors start from: the model, the round; see `Journal`.
        terms : bytes
            Digest of the run's terms, which the later steps have to name again.
        """
        with self._step(request.instance, Phase.SHARED, Phase.MASKED):
            announced = _known(self._announced)
            me = self._member.name
            member_list = self._demands.member_list(request.members, request.membership_proof)
            masking = Masking(announced, member_list, transcript)
            self._demands.check_members(masking)
            partners = masking.partners(me)
            if tuple(request.sealed) != partners:
                raise self._demands.refusal(
                    f"shares sealed by {listed(request.sealed)}",
                    f"one of each neighbour in U2 ({listed(partners)})",
                )
            for peer, sealed in request.sealed.items():
                self._held[peer] = self._open(announced, peer, sealed)
            masks = [masking.self_mask(me, self._seed)]
            own = _known(self._keys).masking
            masks += [masking.pair_mask(me, own, peer) for peer in partners]
            apply(masks, vectors, threads=threads)
            self._masking, self._proof = masking, request.membership_proof
            self._bases, self._terms = tuple(bases), terms
            self._keys, self._seed = None, b""  # the others hold shares of both

    def sign(self, request: SignRequest, journal: Journal, *, terms: bytes = b"") -> SignReply:
        """Sign a survivor list from which somebody is missing; one list only."""
        with self._step(request.instance, Phase.MASKED, Phase.SIGNED):
            self._check_terms(terms)
            masking = _known(self._masking)
            survivors = self._demands.member_list(request.survivors, request.membership_proof)
            self._demands.check_survivors(masking, survivors)
            if survivors.label == masking.members.label:
                raise self._demands.refusal(
                    "a full survivor list to sign", "it to be answered at once"
                )
            journal.check(self._bases, survivors.label)
            self._signed = survivors.label
            parts = masking.list_parts(survivors.label)
            return SignReply(sign(self._member.identity, LIST_PURPOSE, *parts))

    def release(
        self, request: UnmaskRequest, journal: Journal, *, terms: bytes = b""
    ) -> UnmaskReply:
        """Return shares: the seed of each survivor, the mask key of each that dropped out."""
        allowed = (Phase.MASKED, Phase.SIGNED)
        with self._step(request.instance, *allowed, Phase.SPENT):
            self._check_terms(terms)
            masking = _known(self._masking)
            survivors = self._demands.member_list(request.survivors, request.membership_proof)
            self._demands.check_survivors(masking, survivors)
            if self._signed and self._signed != survivors.label:
                raise self._demands.refusal(
                    f"the survivors {listed(survivors.label)}",
                    f"the list it signed: {listed(self._signed)}",
                )
            if survivors.label != masking.members.label:
                self._demands.check_signatures(masking, survivors, request.signatures)
            journal.record(self._bases, survivors.label)
            held = self._held
            gone = masking.members.those - survivors.those
            return UnmaskReply(
                seeds={name: share.seed for name, share in held.items() if name not in gone},
                mask_keys={name: share.mask_key for name, share in held.items() if name in gone},
            )

    def _check_terms(self, terms: bytes) -> None:
        """Refuse to go on under other terms: they decide which lists the journal lets through."""
        if terms != self._terms:
            raise self._demands.refusal(
                "a step under other terms of the run", "those under which it masked"
            )

    def _open(self, announced: Announcement, peer: str, sealed: bytes) -> PeerShares:
        me = self._member.name
        raw = open_sealed(
            _known(self._keys).sealing.agree(announced.keys[peer].sealing),
            sealed,
            sender=peer,
            receiver=me,
            associated=announced.sealing_context(peer, me),
        )
        return PeerShares.from_bytes(raw)

    # --- Order ------------------------------------------------------------------------------

    @contextmanager
    def _step(self, number: int, *phases: Phase) -> Iterator[None]:
        """Allow a step from any of the first phases; end in the last, or spent if it fails."""
        *allowed, after = phases
        if number != self.number:
            raise self._demands.refusal(
                f"a message of instance {number}", f"instance {self.number}"
            )
        if self.phase not in allowed:
            raise self._demands.refusal(
                f"a step for which this client is too far or not far enough "
                f"({self.phase.name.lower()})",
                f"each step once and in order ({' or '.join(p.name.lower() for p in allowed)})",
            )
        self.phase = Phase.SPENT
        try:
            yield
            self.phase = after
        finally:
            if self.phase is Phase.SPENT:
                self._keys, self._seed, self._held = None, b"", {}

    # --- Between two messages, at rest ------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return all of it, secrets included: to be sealed before it is stored."""
        keys, masking = self._keys, self._masking
        return encode(
            ClientState(
                instance=self.number,
                phase=self.phase,
                degree=self._degree or 0,
                sealing=keys.sealing.private_bytes() if keys else b"",
                masking=keys.masking.private_bytes() if keys else b"",
                seed=self._seed,
                request=self._request,
                members=masking.members.names if masking else (),
                transcript=masking.transcript if masking else b"",
                terms=self._terms,
                held={name: share.seed + share.mask_key for name, share in self._held.items()},
                signed=self._signed,
                bases=tuple(sorted(base.hex() for base in self._bases)),
                membership_proof=self._proof,
            )
        )

    @classmethod
    def from_bytes(cls, member: Member, raw: bytes) -> "ClientInstance":
        """Undo `to_bytes`.

        Raises
        ------
        ProtocolError
            If `raw` is not what `to_bytes` gave.
        """
        state = decode(raw, ClientState)
        instance = cls(member, state.instance, degree=state.degree or None)
        try:
            instance.phase = Phase(state.phase)
            instance._bases = tuple(bytes.fromhex(base) for base in state.bases)
        except ValueError as error:
            raise instance._demands.refusal(f"a stored state ({error})", "what it stored") from None
        instance._keys = None
        if state.sealing:
            pairs = (KeyPair.from_private(state.sealing), KeyPair.from_private(state.masking))
            instance._keys = InstanceKeys(*pairs)
        instance._seed, instance._signed = state.seed, state.signed
        instance._terms = state.terms
        instance._request = state.request
        if state.request:
            announced = instance._demands.announcement(decode(state.request, SharesRequest))
            instance._announced, instance._proof = announced, state.membership_proof
            if state.members:
                member_list = instance._demands.member_list(state.members, state.membership_proof)
                instance._masking = Masking(announced, member_list, state.transcript)
        instance._held = {name: PeerShares.from_bytes(both) for name, both in state.held.items()}
        if instance.to_bytes() != raw:
            raise instance._demands.refusal(
                "a stored state that does not hold together", "what it stored"
            )
        return instance


def _known(value: _T | None) -> _T:
    assert value is not None, "the phase says that it is known"
    return value
