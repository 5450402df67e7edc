"""A relay: sealed models, their bytes, links back to first weights, what a site keeps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.site.baton import Baton, Held
from primia_flwr.messages.relay import model_bytes, model_of
from primia_flwr.primitives.keys import KeyPair
from primia_flwr.secagg.protocol.hop import Hop, HopKey
from primia_flwr.secagg.protocol.lineage import ancestors, link
from primia_flwr.secagg.protocol.parties import Session
from primia_flwr.secagg.protocol.wire import RelayHop, RelayLineage, decode, encode
from tests.fuzz.loaders.target import Made, put, target

_RUN, _NAMES = "ab" * 16, ("munich", "paris")
_IDENTITIES = {name: Ed25519PrivateKey.generate() for name in _NAMES}
_SESSION = Session(
    _RUN, {name: key.public_key().public_bytes_raw() for name, key in _IDENTITIES.items()}
)
_LIKE = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float64)}


@target("bytes of a relayed model")
def model(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        assert model_of(raw, _LIKE)["w"].shape == (2, 3)

    return Made(load, [model_bytes(_LIKE)])


@target("sealed model")
def sealed(folder: Path) -> Made:
    pairs = {name: KeyPair.generate() for name in _NAMES}
    keys = {
        name: HopKey.signed(pairs[name], _IDENTITIES[name], run=_RUN, cycle=1, site=name)
        for name in _NAMES
    }
    hop = Hop(_SESSION, b"terms", 1, 0, *_NAMES)

    def load(raw: bytes) -> None:
        assert hop.open(pairs["paris"], keys["munich"], raw)[1] == ("munich",)

    return Made(load, [hop.seal(pairs["munich"], keys["paris"], b"model", ["munich"])])


@target("hop of a relay")
def hop(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        assert decode(raw, RelayHop).cycle >= 0

    return Made(load, [encode(RelayHop(1, 0, "munich", "paris", {"paris": bytes(96)}))])


@target("links of a relay")
def links(folder: Path) -> Made:
    before, after = bytes(32), b"\1" * 32
    own = link(_IDENTITIES["munich"], run=_RUN, site="munich", before=before, after=after)

    def load(raw: bytes) -> None:
        assert ancestors(decode(raw, RelayLineage).links, after, _SESSION) in ([], [before])

    return Made(load, [encode(RelayLineage({"000000 munich": own}))])


@target("key of a cycle")
def key(folder: Path) -> Made:
    baton, file = Baton(folder / "relay"), folder / "relay" / "cycle.key"
    baton.begin(3)

    def load(raw: bytes) -> None:
        put(file, raw)
        assert len(baton.pair(3).public) == 32

    return Made(load, [file.read_bytes()])


@target("held model")
def kept(folder: Path) -> Made:
    baton, file = Baton(folder / "held"), folder / "held" / "held.safetensors"
    baton.keep(Held(3, _NAMES, _LIKE))

    def load(raw: bytes) -> None:
        put(file, raw)
        assert baton.held().cycle >= 0

    return Made(load, [file.read_bytes()])
