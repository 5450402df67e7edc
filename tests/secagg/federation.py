"""A federation of protocol parties in one process, every message through its bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.membership import Told
from primia_flwr.secagg.protocol.parties import Floor, Member, Session
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import (
    KeysReply,
    MaskRequest,
    SharesReply,
    SharesRequest,
    SignReply,
    SignRequest,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
    encode_each,
)
from primia_flwr.secagg.state.journal import Journal

TOLD, BASES = b"told", (b"base",)
FLOOR = Floor()


def members(count: int, floor: Floor = FLOOR, run: str = "run") -> dict[str, Member]:
    """Return sites s001, s002, ... with fresh identities and one roster."""
    identities = {f"s{i:03d}": Ed25519PrivateKey.generate() for i in range(1, count + 1)}
    public = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
    session = Session(run, public)
    return {name: Member(name, key, session, floor) for name, key in identities.items()}


@dataclass
class Federation:
    """Clients and an honest server in one instance; `steps` in order, or `run` for all."""

    everyone: Mapping[str, Member]
    number: int = 1
    degree: int | None = None
    floor: Floor = FLOOR
    clients: dict[str, ClientInstance] = field(default_factory=dict)
    journals: dict[str, Journal] = field(default_factory=dict)
    seen: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        session = next(iter(self.everyone.values())).session
        self.server = ServerInstance(session, self.number, self.floor, degree=self.degree)
        for name, member in self.everyone.items():
            self.clients[name] = ClientInstance(member, self.number, degree=self.degree)
            self.journals.setdefault(name, Journal(None))

    def up(self, raw: bytes) -> bytes:
        """Pass bytes to the server, which keeps all that it sees."""
        self.seen.append(raw)
        return raw

    def keys(self, without: Collection[str] = ()) -> dict[str, SharesRequest]:
        for name in self.present(without):
            raw = self.up(encode(self.clients[name].begin()))
            self.server.add_keys(name, decode(raw, KeysReply))
        return self.down(self.server.announce(), SharesRequest)

    def down(self, requests: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
        """Pass requests through their bytes."""
        return {name: decode(raw, kind) for name, raw in encode_each(requests).items()}

    def shares(self, requests: Mapping[str, SharesRequest], without: Collection[str] = ()) -> None:
        for name in self.present(without, requests):
            self.restart(name)
            raw = self.up(encode(self.clients[name].share(requests[name])))
            self.server.add_shares(name, decode(raw, SharesReply))

    def vectors(
        self, values: Mapping[str, Vector], without: Collection[str] = (), transcript: bytes = TOLD
    ) -> None:
        requests = self.down(self.server.begin_sum(transcript), MaskRequest)
        for name in self.present(without, requests):
            self.restart(name)
            masked = values[name].copy()
            self.clients[name].mask(requests[name], [masked], transcript=transcript, bases=BASES)
            self.up(masked.tobytes())
            self.server.add_vectors(name, [masked])

    def signatures(self, without: Collection[str] = ()) -> None:
        requests = self.down(self.server.sign_requests(), SignRequest)
        for name in self.present(without, requests):
            self.restart(name)
            raw = self.up(encode(self.clients[name].sign(requests[name], self.journals[name])))
            self.server.add_signature(name, decode(raw, SignReply))

    def unmask(self, without: Collection[str] = ()) -> Vector:
        requests = self.down(self.server.unmask_requests(), UnmaskRequest)
        for name in self.present(without, requests):
            self.restart(name)
            raw = self.up(encode(self.clients[name].release(requests[name], self.journals[name])))
            self.server.add_release(name, decode(raw, UnmaskReply))
        return self.server.unmask()[0]

    def run(
        self, values: Mapping[str, Vector], lost: Mapping[str, Collection[str]] | None = None
    ) -> Vector:
        """Take all steps; `lost` names who is lost at which step and never comes back."""
        gone: set[str] = set()

        def without(step: str) -> set[str]:
            gone.update((lost or {}).get(step, ()))
            return gone

        request = self.keys(without("keys"))
        self.shares(request, without("shares"))
        self.vectors(values, without("vectors"))
        self.signatures(without("signatures"))
        return self.unmask(without("unmask"))

    def present(self, without: Collection[str], of: Collection[str] | None = None) -> list[str]:
        return [n for n in self.clients if n not in without and (of is None or n in of)]

    def restart(self, name: str) -> None:
        """Store and load the client's state, as between two messages to a SuperNode."""
        raw = self.clients[name].to_bytes()
        self.clients[name] = ClientInstance.from_bytes(self.everyone[name], raw)


def near(federation: Federation, name: str) -> list[str]:
    """Return a client's neighbours."""
    return sorted(federation.server._announcement.near(name))


def far(federation: Federation, name: str) -> list[str]:
    """Return those that are not."""
    close = {name, *near(federation, name)}
    return [other for other in federation.everyone if other not in close]


def transcript_hash(federation: Federation, name: str, members: Collection[str]) -> MaskRequest:
    """Return what a client of a sparse graph is sent where these are in U2."""
    shown, membership_proof = Told(federation.server._announcement, tuple(sorted(members))).to(name)
    sealed = {peer: federation.server._sealed[peer].sealed[name] for peer in shown if peer != name}
    return MaskRequest(federation.number, shown, sealed, membership_proof)


def vectors(names: Collection[str], size: int = 8, seed: int = 0) -> dict[str, Vector]:
    """Return a random uint32 vector of each."""
    random = np.random.default_rng(seed)
    return {n: random.integers(0, 2**32, size, dtype=np.uint32) for n in sorted(names)}


def total(values: Mapping[str, Vector], of: Collection[str]) -> Vector:
    """Return the sum modulo 2^32 over some of them."""
    return np.sum([values[name] for name in of], axis=0, dtype=np.uint32)
