"""Whatever reads the bytes of another party, or of a file, and what must hold for any bytes.

A target takes bytes and says whether they were accepted. Accepted bytes are the ones that the
encoder gives for what was read; all others are refused with a `PrimiaError`. Anything else that
a target raises is a mistake in the package.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord

from primia_flwr.errors import PrimiaError
from primia_flwr.messages.secure import (
    NUMBERS,
    UPDATE,
    pack_vectors,
    part,
    unpack_vectors,
)
from primia_flwr.primitives.keys import PublicKeys
from primia_flwr.secagg.payload.layout import WEIGHT, Layout, Number
from primia_flwr.secagg.protocol import wire
from primia_flwr.secagg.protocol.client import ClientInstance, PeerShares
from primia_flwr.secagg.protocol.sealing import open_sealed, seal
from primia_flwr.secagg.protocol.vault import Vault
from primia_flwr.secagg.protocol.wire import decode, encode
from primia_flwr.secagg.state.journal import Journal
from tests.fuzz.stage import ME, SPARSE, STAGE, Stage, is_a

KINDS = [kind for kind in vars(wire).values() if getattr(kind, "__dataclass_fields__", None)]
SECRET = bytes(range(32))
DIRECTION: dict[str, Any] = {"sender": "a", "receiver": "b", "associated": b"context"}
SEALED = seal(SECRET, bytes(64), rng=bytes, **DIRECTION)
LAYOUT = Layout(3, (Number(WEIGHT), Number("loss", step=2.0**-20), Number("counts", 3)), 1, 9, 5)
TABLE_ENTRIES = 5
FOLDER = tempfile.TemporaryDirectory()
JOURNAL = Path(FOLDER.name) / "answered.jsonl"
VAULT = Vault(Path(FOLDER.name) / "vault", STAGE.everyone[ME])
VAULT.begin(1)
RESTING = VAULT.folder / "instance-1.sealed"
RESTS = RESTING.read_bytes()

Target = Callable[[bytes], bool]


def refusable(target: Callable[[bytes], None]) -> Target:
    """Make a target of a function that returns where it accepts."""

    def taking(raw: bytes) -> bool:
        try:
            target(raw)
        except PrimiaError:
            return False
        return True

    return taking


def message(raw: bytes) -> bool:
    """One kind at most takes them."""
    kinds = [kind for kind in KINDS if is_a(kind, raw)]
    assert len(kinds) <= 1, kinds
    assert all(encode(decode(raw, kind)) == raw for kind in kinds)
    return bool(kinds)


def public_keys(raw: bytes) -> None:
    assert PublicKeys.from_bytes(raw).to_bytes() == raw


def peer_shares(raw: bytes) -> None:
    shares = PeerShares.from_bytes(raw)
    assert shares.seed + shares.mask_key == raw


def sealed(raw: bytes) -> None:
    """Nobody without the secret seals anything else."""
    PeerShares.from_bytes(open_sealed(SECRET, raw, **DIRECTION))
    assert raw == SEALED


def state_on(stage: Stage) -> Callable[[bytes], None]:
    def state(raw: bytes) -> None:
        assert ClientInstance.from_bytes(stage.everyone[ME], raw).to_bytes() == raw

    return state


def vault(raw: bytes) -> None:
    RESTING.write_bytes(raw)
    VAULT.load(1)
    assert raw == RESTS


def journal(raw: bytes) -> None:
    """A line that is cut off goes; all others are there as the site wrote them."""
    JOURNAL.write_bytes(raw)
    JOURNAL.with_name(JOURNAL.name + ".head").unlink(missing_ok=True)
    known = Journal(JOURNAL)._answered
    whole = JOURNAL.read_bytes()
    assert raw.startswith(whole)
    assert b"\n" not in raw[len(whole) :]
    lines = [json.loads(line) for line in whole.decode().split("\n")[:-1]]
    read = [(line["base"], line["survivors"]) for line in lines]
    assert sorted(read) == sorted((base, one) for base in known for one in known[base])


VALUES: tuple[Callable[[bytes], Any], ...] = (
    bytes,
    lambda raw: None,
    lambda raw: raw.decode("latin-1"),
    lambda raw: len(raw),
    lambda raw: len(raw) / 3,
    lambda raw: bool(raw),
    list,
    lambda raw: [raw],
)


DTYPES = ("uint64", "uint32", "float32", "object", "", "<u4", "int64", "numpy")
FORMS = ("raw", "numpy.ndarray", "", "torch.Tensor")


def vectors(raw: bytes) -> None:
    """Kinds and claimed shapes of both vectors in the first bytes, then where one ends."""
    kinds, claims, cut = (*raw[:3], 0, 0, 0)[:3]
    update, numbers = raw[3 : 3 + cut], raw[3 + cut :]
    record = ArrayRecord()
    for key, data, kind, claim in (
        (UPDATE, update, kinds % 8 ^ 1, claims % 4),
        (NUMBERS, numbers, kinds // 8 % 8, claims // 4 % 4),
    ):
        size = len(data) // (4 if key == UPDATE else 8)
        shape = ((size,), (size + 1,), (), (2**40,))[claim]
        form = FORMS[claims // 16 % 4]
        record[key] = Array(dtype=DTYPES[kind], shape=shape, stype=form, data=data)
    found = unpack_vectors(record, LAYOUT)
    packed = pack_vectors(found)
    assert {key: packed[key].data for key in packed} == {UPDATE: update, NUMBERS: numbers}
    sums = LAYOUT.numbers_of(found)
    mean = LAYOUT.mean_of(found, sums[WEIGHT][0])
    assert mean is None or np.isfinite(mean).all()


def parts(raw: bytes) -> None:
    """Any value where a part of the protocol is expected; its type in the first byte."""
    value = VALUES[(raw or b"\0")[0] % 8](raw[1:])
    record = ConfigRecord({} if value is None else {"keys": value})
    assert part(record, "keys") == value


TARGETS: dict[str, Target] = {
    "message": message,
    "public_keys": refusable(public_keys),
    "peer_shares": refusable(peer_shares),
    "sealed": refusable(sealed),
    "state": refusable(state_on(STAGE)),
    "vault": refusable(vault),
    "journal": refusable(journal),
    "vectors": refusable(vectors),
    "parts": refusable(parts),
    "client": refusable(STAGE.to_client),
    "server": refusable(STAGE.to_server),
    "sparse state": refusable(state_on(SPARSE)),
    "sparse client": refusable(SPARSE.to_client),
    "sparse server": refusable(SPARSE.to_server),
}


def seeds() -> Iterator[tuple[str, bytes]]:
    """Give what each target accepts: what an honest federation sends and stores."""
    for stage, graph in ((STAGE, ""), (SPARSE, "sparse ")):
        for raw in stage.messages:
            yield "message", raw
        for raw in stage.replies:
            yield f"{graph}server", raw
        for raw in stage.requests:
            yield f"{graph}client", raw
        for raw in stage.states:
            yield "message", raw
            yield f"{graph}state", raw
    yield "public_keys", bytes(range(128))
    yield "peer_shares", bytes(range(64))
    yield "sealed", SEALED
    yield "vault", RESTS
    for file in (JOURNAL, JOURNAL.with_name(JOURNAL.name + ".head")):
        file.unlink(missing_ok=True)
    Journal(JOURNAL).record([b"model", b"round"], ["munich", "paris", "zürich"])
    yield "journal", JOURNAL.read_bytes()
    table = np.arange(TABLE_ENTRIES, dtype="<u8").tobytes()
    yield "vectors", bytes([0, 0, 4 * LAYOUT.entries]) + bytes(4 * LAYOUT.entries) + table
    yield "parts", b"\0" + STAGE.messages[0]
