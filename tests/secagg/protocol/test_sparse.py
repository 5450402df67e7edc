"""The sparse graph: right sums whoever is lost, what they cost a client, and different lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from primia_bench.secagg.rounds import enlist

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import PublicKeys, bind
from primia_flwr.secagg.payload.masks import Vector
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.parties import Floor
from primia_flwr.secagg.protocol.server import ServerInstance
from primia_flwr.secagg.protocol.wire import (
    VERSION,
    MaskRequest,
    SharesReply,
    SharesRequest,
    decode,
    encode,
    encode_each,
)
from tests.secagg.federation import (
    BASES,
    TOLD,
    Federation,
    far,
    members,
    near,
    total,
    transcript_hash,
    vectors,
)

ME = "s001"
DEGREE = 4


# --- Sums ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lost",
    [
        {},
        {"keys": ["s003"], "shares": ["s011", "s012"]},
        {"vectors": ["s004", "s017", "s031"], "signatures": ["s020"], "unmask": ["s021"]},
    ],
)
def test_the_sum_of_forty_with_drops(lost: dict[str, list[str]]) -> None:
    everyone = members(40)
    values, federation = vectors(everyone), Federation(everyone, degree=8)
    result = federation.run(values, lost)
    gone = {name for step in ("keys", "shares", "vectors") for name in lost.get(step, ())}
    assert set(federation.server.survivors) == set(everyone) - gone
    assert np.array_equal(result, total(values, set(everyone) - gone))
    assert {len(reply.sealed) for reply in federation.server._sealed.values()} == {8}


def test_as_many_neighbours_as_there_are_others() -> None:
    everyone = members(5)
    values = vectors(everyone)
    result = Federation(everyone, degree=4).run(values, {"vectors": ["s002"]})
    assert np.array_equal(result, total(values, set(everyone) - {"s002"}))


def test_survivors_that_the_graph_does_not_connect_are_not_unmasked() -> None:
    everyone = members(8)
    federation = Federation(everyone, degree=2)
    federation.shares(federation.keys())
    one, *_ = far(federation, ME)  # the ring is cut at two places
    federation.vectors(vectors(everyone), without=[ME, one])
    assert len(federation.server.survivors) == 6
    assert not federation.server.can_unmask


# --- What it costs ---------------------------------------------------------------------------


def bytes_down(count: int) -> int:
    """Return the most bytes that a client gets in an instance; replies are of the right size."""
    everyone = enlist(count)
    session = everyone["s0001"].session
    server, sent = ServerInstance(session, 1, Floor(), degree=8), Counter[str]()

    def send(requests: Mapping[str, object]) -> None:
        sent.update({name: len(raw) for name, raw in encode_each(requests).items()})

    for name, member in everyone.items():
        server.add_keys(name, ClientInstance(member, 1, degree=8).begin())
    send(server.announce())
    for name in everyone:
        peers = server._announcement.peers(name)
        server.add_shares(name, SharesReply(dict.fromkeys(peers, bytes(96)), bytes(32)))
    send(server.begin_sum(TOLD))
    for name in everyone:
        server.add_vectors(name, [np.zeros(1, np.uint32)])
    send(server.unmask_requests())
    return max(sent.values())


def test_what_a_client_gets_grows_by_the_proofs_only() -> None:
    # Three lists, each with a proof of at most ceil(log2 n) hashes, 7 and 10, and with n and the
    # place as numbers, which take a byte each to 127 and two bytes to 32,767.
    assert bytes_down(1000) - bytes_down(100) == 3 * (32 * (10 - 7) + 1 + 1)


@pytest.mark.parametrize("count", [12, 40])
def test_a_client_checks_the_keys_of_its_neighbours_only(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    federation = Federation(members(count), degree=8)
    requests = federation.keys()
    checked = []
    monkeypatch.setattr(PublicKeys, "verify", lambda *_, sender, **__: checked.append(sender))
    federation.clients[ME].share(requests[ME])
    assert sorted(checked) == sorted([ME, *near(federation, ME)])
    assert len(checked) == 9


def test_a_sparse_request_starts_like_any_other() -> None:
    federation = Federation(members(12), degree=DEGREE)
    raw = encode(federation.keys()[ME])
    assert raw.startswith(bind(VERSION, "SharesRequest near", 1, 2, 5, ME))


# --- Different lists to two clients ----------------------------------------------------------


def mask(federation: Federation, request: MaskRequest, name: str) -> Vector:
    vector = vectors(federation.everyone)[name]
    federation.clients[name].mask(request, [vector], transcript=TOLD, bases=BASES)
    return vector


def test_different_roots_of_u1_have_shares_that_do_not_open() -> None:
    everyone = members(12)
    honest = Federation(everyone, degree=DEGREE)
    requests = honest.keys()
    left_out = Federation(everyone, degree=DEGREE)
    left_out.server._keys = dict(honest.server._keys)
    one = far(honest, ME)[0]
    del left_out.server._keys[one]
    lie = replace(requests[ME], membership_proof=left_out.server.announce()[ME].membership_proof)
    sealed = honest.clients[ME].share(lie)
    honest.server.add_shares(ME, sealed)
    honest.shares(requests, without=[ME])
    neighbour = near(honest, ME)[0]
    with pytest.raises(
        ProtocolError, match=f"the sealed message from 's001' to '{neighbour}' does not open"
    ):
        mask(honest, honest.server.begin_sum(TOLD)[neighbour], neighbour)


def test_different_roots_of_u2_have_masks_that_do_not_cancel() -> None:
    everyone = members(12)
    values, federation = vectors(everyone), Federation(everyone, degree=DEGREE)
    federation.shares(federation.keys())
    requests = federation.server.begin_sum(TOLD)
    requests[ME] = transcript_hash(federation, ME, set(everyone) - {far(federation, ME)[0]})
    for name, request in requests.items():
        federation.server.add_vectors(name, [mask(federation, request, name)])
    opened = federation.unmask(without=[ME])
    assert len(set(opened - total(values, everyone))) == 8, "noise"


def test_the_server_waits_for_signatures_in_every_neighbourhood() -> None:
    twelve = Federation(members(12), degree=DEGREE)
    twelve.shares(twelve.keys())
    lost = far(twelve, ME)[0]
    twelve.vectors(vectors(twelve.everyone), without=[lost])
    twelve.signatures(without=[ME, *near(twelve, ME)])
    assert twelve.server.num_signatures == 11 - (1 + DEGREE)
    assert not twelve.server.signed


def test_a_second_list_for_the_same_model_is_refused() -> None:
    everyone = members(12)
    values, first = vectors(everyone), Federation(everyone, degree=DEGREE)
    first.run(values)
    same = Federation(everyone, number=2, degree=DEGREE, journals=first.journals)
    assert np.array_equal(same.run(values), total(values, everyone))
    fewer = Federation(everyone, number=3, degree=DEGREE, journals=first.journals)
    with pytest.raises(
        ProtocolError,
        match=r"11 sites of Merkle root.* was given",
    ):
        fewer.run(values, {"keys": ["s004"]})


# --- Any bit of what it is told --------------------------------------------------------------


class Prepared:
    """Both true requests for one client, and the client as it was before each of them."""

    def __init__(self) -> None:
        federation = Federation(members(12), degree=DEGREE)
        requests = federation.keys()
        self.member, self.begun = federation.everyone[ME], federation.clients[ME].to_bytes()
        federation.shares(requests)
        self.mask = federation.server.begin_sum(TOLD)[ME]
        self.shares, self.shared = requests[ME], federation.clients[ME].to_bytes()

    def bound(self, request: SharesRequest | MaskRequest) -> bytes:
        """Return what the client binds to after a request: its shares, or its masks."""
        if isinstance(request, SharesRequest):
            client = ClientInstance.from_bytes(self.member, self.begun)
            client.share(request)
            assert client._announced
            return client._announced.digest
        client = ClientInstance.from_bytes(self.member, self.shared)
        client.mask(request, [np.zeros(4, np.uint32)], transcript=TOLD, bases=BASES)
        assert client._masking
        return client._masking.digest


PREPARED = Prepared()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([PREPARED.shares, PREPARED.mask]), st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_bound(
    request_: SharesRequest | MaskRequest, at: int, bit: int
) -> None:
    raw = bytearray(encode(request_))
    raw[at % len(raw)] ^= 1 << bit
    try:
        bound = PREPARED.bound(decode(bytes(raw), type(request_)))
    except ProtocolError:
        return
    assert bound != PREPARED.bound(request_)
