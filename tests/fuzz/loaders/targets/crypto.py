"""Encrypted inference: kits, logs, the store, and what the parties send to each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from primia_flwr.cli.inference.resumed import read_kept
from primia_flwr.errors import ProtocolError
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.crypten import provider as crypten_provider
from primia_flwr.inference.crypten import wire as crypten_wire
from primia_flwr.inference.crypten.requests import Request
from primia_flwr.inference.fss import compare
from primia_flwr.inference.fss.keys import Sizes
from primia_flwr.inference.overflow import check as audit
from primia_flwr.inference.preprocessing import dealing
from primia_flwr.inference.preprocessing.store import Store
from primia_flwr.inference.protocol import online
from primia_flwr.inference.service import data_owner
from primia_flwr.inference.service.negotiation import read_card
from primia_flwr.inference.service.provider import _is_wish
from primia_flwr.inference.service.query_log import QueryLog
from primia_flwr.inference.transport import messages
from primia_flwr.inference.transport.credentials import load_credentials
from primia_flwr.inference.transport.frames import ERROR, FrameReader, frame
from primia_flwr.provisioning.service import ServicePlan, provision_service
from primia_flwr.provisioning.service_changes import ServiceFolder
from tests.fuzz.loaders.target import Made, choice, put, target
from tests.fuzz.loaders.targets.models import CARD

SEED = bytes(32)
NEEDS = (
    b'{"audit":true,"comparisons":[{"bits":20,"count":5}],"openings":[[1,3,8,8]],"products":'
    b'[{"geometry":{"dilation":[1,1],"groups":1,"padding":[1,1],"stride":[1,1]},"opening":0,'
    b'"shape":[1,4,8,8],"weight_shape":[4,3,3,3]}]}'
)


class Says:
    """A channel on which one frame has come."""

    peer, timeout = "the other", 1.0

    def __init__(self, raw: bytes) -> None:
        self._raw = bytearray(raw)

    def receive(self, kind: int, at_most: int) -> bytearray:
        if len(self._raw) > at_most:
            raise ProtocolError("longer than the channel takes")
        return self._raw


@target("service kit")
def service_kit(folder: Path) -> Made:
    """Any one file of a kit garbled; the first byte of an input says which."""
    service = provision_service(ServicePlan("trial", "localhost", "localhost", ["a"]), folder / "s")
    kit = next(iter(service.kits.values()))
    names = ["party.key", "party.crt", "ca.crt", "peers.yaml"]
    honest = [(kit / name).read_bytes() for name in names]

    def load(raw: bytes) -> None:
        for name, content in zip(names, honest, strict=True):
            put(kit / name, content)
        index, rest = choice(raw, len(names))
        put(kit / names[index], rest)
        found = load_credentials(kit)
        found.context(server=True)
        found.context(server=False)

    return Made(load, [bytes([at]) + content for at, content in enumerate(honest)])


@target("service folder")
def service_folder(folder: Path) -> Made:
    """Any one file garbled from which a service is changed; the first byte says which."""
    plan = ServicePlan("trial", "localhost", "localhost", ["a"])
    service = provision_service(plan, folder / "s").folder
    names = ["ca.key", "ca.crt", "peers.yaml", "certificates/kit-a.crt"]
    honest = [(service / name).read_bytes() for name in names]

    def load(raw: bytes) -> None:
        for name, content in zip(names, honest, strict=True):
            put(service / name, content)
        index, rest = choice(raw, len(names))
        put(service / names[index], rest)
        ServiceFolder(service).change(renew=["a"], days=1)

    return Made(load, [bytes([at]) + content for at, content in enumerate(honest)])


@target("certificate of a stranger")
def stranger(folder: Path) -> Made:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    service = provision_service(ServicePlan("trial", "localhost", "localhost", ["a"]), folder / "s")
    kit = next(iter(service.kits.values()))
    known = load_credentials(kit)
    certificate = x509.load_pem_x509_certificate((kit / "party.crt").read_bytes())
    seed = certificate.public_bytes(Encoding.DER)
    return Made(lambda raw: known.identify(raw, [known.own.role]), [seed])


@target("query log")
def query_log(folder: Path) -> Made:
    file = folder / "queries.jsonl"
    log = QueryLog(file, limit=10)
    log.add("clinic", 2)
    log.add("clinic", 3)

    def load(raw: bytes) -> None:
        found = QueryLog(put(file, raw), limit=1 << 40)
        found.add("clinic", 1)
        assert QueryLog(file, limit=1 << 40).used("clinic") >= 1

    return Made(load, [file.read_bytes()])


@target("interrupted call")
def interrupted_call(folder: Path) -> Made:
    row = {"file": "a.png", "sha256": "ab" * 32, "audit": "off", "plausible": True}
    row |= {"seconds": 0.5, "bytes_sent": 1, "bytes_received": 2, "scores": [0.5, 1.5]}
    facts = {"audit": False, "model": {}, "classes": [], "sessions": [], "rounds": 1}
    facts |= {"bytes_preprocessing": 1, "seconds_in_all": 1.0, "predictions": [row]}
    seed = json.dumps(facts).encode()
    return Made(
        lambda raw: read_kept(put(folder / "predictions.json", raw).parent, audit=False), [seed]
    )


@target("sealed store")
def store(folder: Path) -> Made:
    kept = Store(folder / "store", SEED, limit_bytes=1 << 30)
    parts = [b"one", b"two" * 30]
    kept.put(0, parts)
    file = kept._file(0)
    seed, size = file.read_bytes(), kept._sizes[0]

    def load(raw: bytes) -> None:
        """Each input in the place of block 0: that is what its seals are for."""
        kept._mark, kept._sizes[0] = 0, size
        put(file, raw)
        assert kept.take(0) == parts

    return Made(load, [seed])


@target("messages of inference")
def inference(folder: Path) -> Made:
    digits = "0" * 64
    hello = messages.Hello(messages.VERSION, "fss", 1, 1, digits)
    offer = messages.Offer(CARD.to_dict(), 20, digits, digits, digits, 2, 5)
    join = messages.Join(digits, digits, "fss")

    def load(raw: bytes) -> None:
        for kind in (messages.Hello, messages.Offer, messages.Join):
            try:
                found: Any = messages.unpack(raw, kind)
            except ProtocolError:
                continue
            if kind is messages.Offer:
                read_card(found)
            return
        raise ProtocolError("none of them")

    return Made(load, [messages.pack(one) for one in (hello, offer, join)])


@target("frames")
def frames(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        reader, at = FrameReader(), 0
        reader.expect({1: 100, 2: 1 << 40})
        while at < len(raw) and reader.error() is None:
            room = reader.room()
            count = min(len(room), len(raw) - at)
            room[:count] = raw[at : at + count]
            at += count
            reader.arrived(count)
            assert len(reader._body) <= (1 << 20) + 2 * len(raw)
            if not reader.wanted and reader.error() is None:
                reader.take()
                reader.expect({1: 100, 2: 1 << 40})

    def written(kind: int, body: bytes) -> bytes:
        return b"".join(bytes(part) for part in frame(kind, [body]))

    return Made(load, [written(1, b"hello") + written(2, b"x" * 300), written(ERROR, b"no")])


@target("needs")
def spec(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        assert CorrelationSpec.from_bytes(raw).to_bytes() == raw

    return Made(load, [NEEDS])


@target("dealt parts")
def dealt(folder: Path) -> Made:
    """All that a party takes apart that a crypto provider sent; the first byte says what."""
    asked = CorrelationSpec.from_bytes(NEEDS)
    parts = [bytes(b) for _, b in dealing.Dealer(asked, SEED).block()]
    opened = (
        lambda raw: dealing.open_product(1, SEED, asked, 0, raw),
        lambda raw: dealing.open_selection(1, SEED, asked, 0, raw),
        lambda raw: dealing.open_release(1, SEED, raw),
        lambda raw: compare.expand(1, SEED, raw, 40, 5),
        lambda raw: compare.expand(0, SEED, raw, 20, 5),
        lambda raw: online._array(raw, np.uint64, 2),
        lambda raw: data_owner._receive_masked_weights(Says(raw), asked, torch.device("cpu")),  # type: ignore[arg-type]
        lambda raw: crypten_provider._receive(Says(raw), (2,)),  # type: ignore[arg-type]
        lambda raw: _is_wish(Says(raw), 8, bytearray(raw), 3),  # type: ignore[arg-type]
    )
    sizes = (8 * 4 * 64, None, audit.LOCK_BYTES, None, None, 16, 8 * 108, 16, None)
    seeds = [bytes([at]) + bytes(size) for at, size in enumerate(sizes) if size]
    seeds += [b"\3" + bytes(Sizes(40, 5).sent_bytes(1)), bytes([8]) + (3).to_bytes(8, "big")]
    first = dealing.Dealer(asked, SEED).block()
    for index, (mine, other) in enumerate(first):
        if len(other) == dealing.comparison_bytes(1, asked.comparisons[0], True):
            seeds += [b"\1" + parts[index], b"\4" + bytes(mine)]
            break

    def load(raw: bytes) -> None:
        index, rest = choice(raw, len(opened))
        opened[index](rest)

    return Made(load, seeds)


@target("tensors of CrypTen")
def tensors(folder: Path) -> Made:
    values = [torch.zeros(2, 3, dtype=torch.int64), torch.tensor(5), torch.arange(4)]
    seed = b"".join(bytes(part.data) for part in crypten_wire.pack(values))
    return Made(lambda raw: crypten_wire.unpack(bytearray(raw), [(2, 3), (), (4,)]), [seed])


@target("requests of CrypTen")
def requests(folder: Path) -> Made:
    def load(raw: bytes) -> None:
        assert Request.from_bytes(raw).to_bytes() == raw

    shapes = {
        "mul": ((4,), (4,)),
        "matmul": ((2, 3), (3, 2)),
        "conv2d": ((1, 1, 4, 4), (1, 1, 3, 3)),
    }
    return Made(load, [Request(1, name, *shape).to_bytes() for name, shape in shapes.items()])
