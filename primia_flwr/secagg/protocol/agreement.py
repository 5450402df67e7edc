"""What client and server both derive from what was announced: who masks with whom, and with what.

Each quantity binds all that was announced before it, so that clients which were told different
things end up with keys that do not match.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import KeyPair, PublicKeys, bind, digest
from primia_flwr.secagg.payload.masks import Vector, add_masks, mask_key
from primia_flwr.secagg.protocol.parties import Session, flat
from primia_flwr.secagg.protocol.wire import VERSION, Names

LIST_PURPOSE = f"{VERSION} survivors"


@dataclass(frozen=True)
class Sparse:
    """A sparse graph (Bell et al. 2020), and what stands for all of U1 on it.

    Parameters
    ----------
    degree : int
        Neighbours of each client.
    count : int
        Clients in U1.
    root : bytes
        Of the Merkle tree over their names and keys.
    graph : mapping of str to frozenset of str, optional
        Neighbours of each client. A client knows only its own, and needs no graph for them.
    """

    degree: int
    count: int
    root: bytes
    graph: Mapping[str, frozenset[str]] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Announcement:
    """U1: whose keys are in use in an instance, and the threshold.

    Parameters
    ----------
    session : Session
        Run and roster.
    instance : int
        Never repeats in a run.
    threshold : int
        Shares that rebuild a secret.
    keys : mapping of str to PublicKeys
        Of each client in U1. At a client of a sparse graph: its own and its neighbours'.
    sparse : Sparse, optional
        None: everybody masks with everybody. A sparse graph holds against an honest-but-curious
        server only.
    """

    session: Session
    instance: int
    threshold: int
    keys: Mapping[str, PublicKeys]
    sparse: Sparse | None = None

    def verify(self) -> None:
        """Check that every key is of a site on the roster, signed for this instance, and unique.

        Raises
        ------
        ProtocolError
            Naming the site whose keys are wrong.
        """
        owner: dict[bytes, str] = {}
        for name, keys in self.keys.items():
            identity = self.session.identity(name)
            keys.verify(identity, run=self.session.run, instance=self.instance, sender=name)
            for key in (keys.sealing, keys.masking):
                if key in owner:
                    raise ProtocolError(
                        f"{name!r} and {owner[key]!r} announce the same key; expected one each"
                    )
                owner[key] = name

    @property
    def count(self) -> int:
        """Clients in U1."""
        return self.sparse.count if self.sparse else len(self.keys)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        session, sparse = self.session, self.sparse
        fixed = (session.run, session.roster_digest, self.instance, self.threshold)
        if sparse:
            return digest(f"{VERSION} U1", *fixed, sparse.degree, sparse.count, sparse.root)
        keys = {name: keys.to_bytes() for name, keys in self.keys.items()}
        return digest(f"{VERSION} U1", *fixed, 0, *flat(keys))

    def near(self, name: str) -> frozenset[str]:
        """Return with whom a client exchanges shares and masks."""
        if self.sparse and self.sparse.graph is not None:
            return self.sparse.graph[name]
        return frozenset(self.keys) - {name}

    def peers(self, name: str) -> Names:
        """Return a client's neighbours, sorted."""
        return tuple(sorted(self.near(name)))

    def holders(self, name: str) -> dict[str, int]:
        """Return who holds shares of a client's secrets, itself included: x-coordinate by name."""
        return {holder: x for x, holder in enumerate(sorted({name, *self.near(name)}), start=1)}

    def sealing_context(self, sender: str, receiver: str) -> bytes:
        """Return the associated data of sealed shares."""
        return bind(self.instance, sender, receiver, self.digest, self.threshold)


@dataclass(frozen=True)
class MemberList:
    """A list of clients: U2, or the survivors.

    Parameters
    ----------
    names : tuple of str
        Of all on it, sorted. At a client of a sparse graph: of itself and its neighbours on it.
    count : int
        How many are on it.
    label : tuple of str
        What stands for the whole list wherever it is bound, signed or remembered.
    """

    names: Names
    count: int
    label: Names

    @classmethod
    def of_all(cls, names: Names) -> "MemberList":
        """Return the list that names everybody on it."""
        return cls(names, len(names), names)

    @classmethod
    def of_near(cls, names: Names, count: int, root: bytes) -> "MemberList":
        """Return the list for which the root of a Merkle tree stands."""
        return cls(names, count, (f"{count} sites of Merkle root {root.hex()}",))

    @cached_property
    def those(self) -> frozenset[str]:
        """The names, quick to look up."""
        return frozenset(self.names)


@dataclass(frozen=True)
class Masking:
    """U2: who masks with whom, and what all of them were told before they masked.

    Parameters
    ----------
    announcement : Announcement
        Of the same instance.
    members : Roll
        U2: who handed in a share for every neighbour.
    told : bytes
        Digest of the model, the round's configuration, the scale, the weight rule.
    """

    announcement: Announcement
    members: MemberList
    transcript: bytes

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all that the masks are bound to."""
        return digest(
            f"{VERSION} U2", self.announcement.digest, self.transcript, *self.members.label
        )

    def partners(self, name: str) -> Names:
        """Return with whom a client masks: its neighbours in U2."""
        return tuple(sorted(self.announcement.near(name) & self.members.those))

    def self_mask(self, name: str, seed: bytes) -> "Mask":
        """Return the mask that only the client knows."""
        return Mask(seed, bind("self", name, self.digest), 1)

    def pair_mask(self, name: str, pair: KeyPair, partner: str) -> "Mask":
        """Return a client's mask with a partner, whose sign is the other."""
        first, second = sorted((name, partner))
        secret = pair.agree(self.announcement.keys[partner].masking)
        return Mask(secret, bind("pair", first, second, self.digest), 1 if name == first else -1)

    def list_parts(self, label: Collection[str]) -> tuple[str | int | bytes, ...]:
        """Return what a signature on a survivor list covers; see `Roll.label`."""
        return (self.announcement.instance, self.digest, *sorted(label))


@dataclass(frozen=True)
class Mask:
    """One mask over all vectors of an instance, with a key for each of them."""

    secret: bytes = field(repr=False)
    info: bytes
    sign: int

    def of(self, vector: int) -> tuple[bytes, int]:
        """Return key and sign for the vector of that index."""
        return mask_key(self.secret, bind(self.info, vector)), self.sign

    def negated(self) -> "Mask":
        """Return the mask that takes this one off."""
        return replace(self, sign=-self.sign)


def apply(masks: Sequence[Mask], vectors: Sequence[Vector], *, threads: int) -> None:
    """Add masks to vectors in place."""
    for index, vector in enumerate(vectors):
        add_masks(vector, [mask.of(index) for mask in masks], threads=threads)


def commitment(seed: bytes) -> bytes:
    """Return the digest of a self-mask seed, by which the server knows that it rebuilt it."""
    return digest(f"{VERSION} seed", seed)
