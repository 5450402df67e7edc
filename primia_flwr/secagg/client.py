"""A client's side of one instance: five steps, each taken once and in order.

    begin -> share -> mask -> (sign) -> release

A step that finds anything amiss raises `ProtocolError` and gives nothing away; the instance
is then spent. What the client insists on, and why, is in docs/secure-aggregation.md.

Source: Bonawitz et al. 2017 (ePrint 2017/281), figure 4, with the changes of that page.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.agreement import LIST_PURPOSE, Announcement, Masking, apply, commitment
from primia_flwr.secagg.graph import is_connected
from primia_flwr.secagg.journal import Journal
from primia_flwr.secagg.keys import InstanceKeys, KeyPair, PublicKeys, sign, verify
from primia_flwr.secagg.masks import Vector
from primia_flwr.secagg.parties import Member
from primia_flwr.secagg.sealing import open_sealed, seal
from primia_flwr.secagg.shamir import split
from primia_flwr.secagg.wire import (
    ClientState,
    KeysReply,
    MaskRequest,
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

SECRET_BYTES = 32
T = TypeVar("T")


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
        if len(raw) != 2 * SECRET_BYTES:
            raise ProtocolError(f"sealed shares of {len(raw)} bytes; expected {2 * SECRET_BYTES}")
        return cls(raw[:SECRET_BYTES], raw[SECRET_BYTES:])


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
        self._keys: InstanceKeys | None = InstanceKeys.generate()
        self._seed = secrets.token_bytes(SECRET_BYTES)
        self._request = b""
        self._announced: Announcement | None = None
        self._masking: Masking | None = None
        self._held: dict[str, PeerShares] = {}
        self._signed: Names = ()
        self._bases: tuple[bytes, ...] = ()

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
            announced = self._accept(request)
            me, keys = self._member.name, _known(self._keys)
            holders = announced.holders(me)
            xs, threshold = list(holders.values()), announced.threshold
            seeds = split(self._seed, threshold, xs)
            mask_keys = split(keys.masking.private_bytes(), threshold, xs)
            shares = {n: PeerShares(seeds[x], mask_keys[x]) for n, x in holders.items()}
            self._held = {me: shares[me]}
            self._announced, self._request = announced, encode(request)
            sealed = {
                peer: seal(
                    keys.sealing.agree(announced.keys[peer].sealing),
                    shares[peer].seed + shares[peer].mask_key,
                    sender=me,
                    receiver=peer,
                    associated=announced.sealing_context(me, peer),
                )
                for peer in announced.peers(me)
            }
            return SharesReply(sealed, commitment(self._seed))

    def mask(
        self,
        request: MaskRequest,
        vectors: Sequence[Vector],
        *,
        told: bytes,
        bases: Sequence[bytes],
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
        """
        with self._step(request.instance, Phase.SHARED, Phase.MASKED):
            announced = _known(self._announced)
            me = self._member.name
            masking = Masking(announced, request.members, told)
            self._check_members(masking)
            partners = masking.partners(me)
            if tuple(request.sealed) != partners:
                raise self._refusal(
                    f"shares sealed by {_list(request.sealed)}",
                    f"one of each neighbour in U2 ({_list(partners)})",
                )
            for peer, sealed in request.sealed.items():
                self._held[peer] = self._open(announced, peer, sealed)
            masks = [masking.self_mask(me, self._seed)]
            own = _known(self._keys).masking
            masks += [masking.pair_mask(me, own, peer) for peer in partners]
            apply(masks, vectors, threads=threads)
            self._masking, self._bases = masking, tuple(bases)
            self._keys, self._seed = None, b""  # the others hold shares of both

    def sign(self, request: SignRequest, journal: Journal) -> SignReply:
        """Sign a survivor list from which somebody is missing; one list only."""
        with self._step(request.instance, Phase.MASKED, Phase.SIGNED):
            masking = _known(self._masking)
            self._check_survivors(masking, request.survivors)
            if request.survivors == masking.members:
                raise self._refusal("a full survivor list to sign", "it to be answered at once")
            journal.check(self._bases, request.survivors)
            self._signed = request.survivors
            parts = masking.list_parts(request.survivors)
            return SignReply(sign(self._member.identity, LIST_PURPOSE, *parts))

    def release(self, request: UnmaskRequest, journal: Journal) -> UnmaskReply:
        """Return shares: the seed of each survivor, the mask key of each that dropped out."""
        allowed = (Phase.MASKED, Phase.SIGNED)
        with self._step(request.instance, *allowed, Phase.SPENT):
            masking = _known(self._masking)
            survivors = request.survivors
            self._check_survivors(masking, survivors)
            if self._signed and self._signed != survivors:
                raise self._refusal(
                    f"the survivors {_list(survivors)}",
                    f"the list it signed: {_list(self._signed)}",
                )
            if survivors != masking.members:
                self._check_signatures(masking, survivors, request.signatures)
            journal.record(self._bases, survivors)
            held = self._held
            gone = frozenset(masking.members) - frozenset(survivors)
            return UnmaskReply(
                seeds={name: share.seed for name, share in held.items() if name not in gone},
                mask_keys={name: share.mask_key for name, share in held.items() if name in gone},
            )

    # --- What the client insists on ---------------------------------------------------------

    def _accept(self, request: SharesRequest) -> Announcement:
        me, announced = self._member, self._announcement(request)
        keys = announced.keys
        announced.verify()
        if me.name not in keys or keys[me.name] != self.public_keys():
            raise self._refusal("its own keys altered or left out of U1", "them as it sent them")
        if len(keys) < me.floor.min_survivors:
            raise self._refusal(
                f"U1 of {len(keys)} sites", f"at least min_survivors={me.floor.min_survivors}"
            )
        holders = len(announced.holders(me.name))
        least = me.floor.least_threshold(holders)
        if not least <= request.threshold <= holders:
            raise self._refusal(
                f"threshold={request.threshold}",
                f"{least} to {holders}: more than half of the {holders} holders of a secret, "
                f"with {me.floor.max_colluding} of them colluding",
            )
        return announced

    def _check_members(self, masking: Masking) -> None:
        announced, me = masking.announcement, self._member
        strangers = set(masking.members) - set(announced.keys)
        if strangers:
            raise self._refusal(f"U2 with {_list(strangers)}", "only members of U1")
        if me.name not in masking.members:
            raise self._refusal("U2 without itself", "itself in it, whose shares were sent")
        least = me.floor.min_survivors
        partners = len(masking.partners(me.name)) + 1
        if len(masking.members) < least or partners < announced.threshold:
            raise self._refusal(
                f"U2 of {len(masking.members)} sites, {partners} of them near",
                f"at least {least}, and threshold={announced.threshold} near",
            )

    def _check_survivors(self, masking: Masking, survivors: Names) -> None:
        me, announced = self._member, masking.announcement
        strangers = set(survivors) - set(masking.members)
        if strangers:
            raise self._refusal(f"survivors with {_list(strangers)}", "only members of U2")
        if me.name not in survivors:
            raise self._refusal("survivors without itself", "itself, whose vector was sent")
        near = set(announced.graph[me.name]) & set(survivors)
        if len(survivors) < me.floor.min_survivors or len(near) + 1 < announced.threshold:
            raise self._refusal(
                f"{len(survivors)} survivors, {len(near) + 1} of them near",
                f"at least min_survivors={me.floor.min_survivors}, and "
                f"threshold={announced.threshold} near",
            )
        if not is_connected(announced.graph, survivors):
            raise self._refusal("survivors that the graph does not connect", "one component")

    def _check_signatures(
        self, masking: Masking, survivors: Names, signatures: Mapping[str, bytes]
    ) -> None:
        """Insist on more than half of all behind a list with drops: no two lists have that."""
        session = self._member.session
        strangers = set(signatures) - set(masking.members)
        if strangers:
            raise self._refusal(f"signatures of {_list(strangers)}", "only those of U2")
        least = self._member.floor.least_threshold(len(masking.announcement.keys))
        if len(signatures) < least:
            raise self._refusal(
                f"{len(signatures)} signatures on a survivor list without "
                f"{_list(set(masking.members) - set(survivors))}",
                f"at least {least}",
            )
        parts = masking.list_parts(survivors)
        for name, signature in signatures.items():
            verify(session.identity(name), signature, LIST_PURPOSE, *parts)

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
            raise self._refusal(f"a message of instance {number}", f"instance {self.number}")
        if self.phase not in allowed:
            raise self._refusal(
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
                members=masking.members if masking else (),
                told=masking.told if masking else b"",
                held={name: share.seed + share.mask_key for name, share in self._held.items()},
                signed=self._signed,
                bases=tuple(sorted(base.hex() for base in self._bases)),
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
            raise instance._refusal(f"a stored state ({error})", "what it stored") from None
        instance._keys = None
        if state.sealing:
            pairs = (KeyPair.from_private(state.sealing), KeyPair.from_private(state.masking))
            instance._keys = InstanceKeys(*pairs)
        instance._seed, instance._signed = state.seed, state.signed
        instance._request = state.request
        if state.request:
            instance._announced = instance._announcement(decode(state.request, SharesRequest))
            if state.members:
                instance._masking = Masking(instance._announced, state.members, state.told)
        instance._held = {name: PeerShares.from_bytes(both) for name, both in state.held.items()}
        if instance.to_bytes() != raw:
            raise instance._refusal("a stored state that does not hold together", "what it stored")
        return instance

    def _announcement(self, request: SharesRequest) -> Announcement:
        keys = {name: PublicKeys.from_bytes(raw) for name, raw in request.keys.items()}
        session = self._member.session
        return Announcement(session, self.number, request.threshold, keys, self._degree)

    def _refusal(self, found: str, expected: str) -> ProtocolError:
        return ProtocolError(
            f"{self._member.name} refuses {found} in instance {self.number}; expected {expected}"
        )


def _known(value: T | None) -> T:
    assert value is not None, "the phase says that it is known"
    return value


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"
