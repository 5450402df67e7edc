"""One client under any sequence of requests, true, false and damaged: what it never gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import sign
from primia_flwr.secagg.protocol.agreement import LIST_PURPOSE
from primia_flwr.secagg.protocol.client import ClientInstance, Phase
from primia_flwr.secagg.protocol.wire import (
    MaskRequest,
    SharesRequest,
    SignRequest,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
)
from primia_flwr.secagg.state.journal import Journal
from tests.secagg.federation import BASES, TOLD, Federation, members

EVERYONE = members(5)
NAMES = tuple(EVERYONE)
ME = NAMES[0]


class Prepared:
    """All true requests for one client, made with an honest federation around it."""

    def __init__(self) -> None:
        federation = Federation(EVERYONE)
        self.client = federation.clients[ME]
        self.member = EVERYONE[ME]
        requests = federation.keys()
        before = self.client.to_bytes()
        federation.shares(requests)
        self.shares = requests[ME]
        self.mask = federation.server.begin_sum(TOLD)[ME]
        self.masking = federation.server._mask_terms
        self.client = ClientInstance.from_bytes(self.member, before)
        self.shared = federation.clients[ME].to_bytes()

    def signatures(self, survivors: Sequence[str], signers: Sequence[str]) -> dict[str, bytes]:
        parts = self.masking.list_parts(survivors)
        return {n: sign(EVERYONE[n].identity, LIST_PURPOSE, *parts) for n in sorted(signers)}


PREPARED = Prepared()
LISTS = st.lists(st.sampled_from(NAMES), unique=True, min_size=1).map(lambda n: tuple(sorted(n)))
REQUESTS = st.one_of(
    st.just(("share", PREPARED.shares)),
    st.just(("mask", PREPARED.mask)),
    st.builds(lambda names: ("sign", SignRequest(1, names)), LISTS),
    st.builds(
        lambda names, signers: (
            "release",
            UnmaskRequest(1, names, PREPARED.signatures(names, signers)),
        ),
        LISTS,
        LISTS,
    ),
)


class Watched:
    """A client whose answers are watched; it goes through its stored form between requests."""

    def __init__(self) -> None:
        self.client = ClientInstance.from_bytes(PREPARED.member, PREPARED.shared)
        self.journal = Journal(None)
        self.signed: set[tuple[str, ...]] = set()
        self.releases: list[UnmaskReply] = []
        self.masked = 0

    def ask(self, kind: str, request: object) -> None:
        client = self.client
        try:
            if kind == "share":
                assert isinstance(request, SharesRequest)
                client.share(request)
                raise AssertionError("it has shared already")
            if kind == "mask":
                assert isinstance(request, MaskRequest)
                client.mask(request, [np.zeros(4, np.uint32)], transcript=TOLD, bases=BASES)
                self.masked += 1
            elif kind == "sign":
                assert isinstance(request, SignRequest)
                client.sign(request, self.journal)
                self.signed.add(request.survivors)
            else:
                assert isinstance(request, UnmaskRequest)
                self.releases.append(client.release(request, self.journal))
        except ProtocolError:
            pass
        self.client = ClientInstance.from_bytes(PREPARED.member, client.to_bytes())
        self.check()

    def check(self) -> None:
        assert self.masked <= 1
        assert len(self.signed) <= 1
        assert len(self.releases) <= 1
        for reply in self.releases:
            assert not set(reply.seeds) & set(reply.mask_keys), "both secrets of one client"
            assert len(reply.seeds) >= 4
            assert ME in reply.seeds
            if reply.mask_keys and self.signed:
                assert set(reply.seeds) in [set(names) for names in self.signed]
            if self.signed:
                assert reply.mask_keys, "signed a list with drops, then answered the full one"
        if self.releases:
            assert self.client.phase is Phase.SPENT


def play(requests: Sequence[tuple[str, object]]) -> None:
    watched = Watched()
    for kind, request in requests:
        watched.ask(kind, request)


def damaged(raw: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[at % len(raw)] ^= 1 << bit
    return bytes(changed)


def check_damage(request: object, at: int, bit: int) -> None:
    """A request with one bit flipped is refused, by the decoder or by the client.

    But for one: a threshold of 4 of 5 that became 5 is a stricter wish that a client may be told.
    """
    kind = type(request)
    stored = PREPARED.shared if kind is MaskRequest else PREPARED.client.to_bytes()
    client = ClientInstance.from_bytes(PREPARED.member, stored)
    raw = damaged(encode(request), at, bit)
    if raw == encode(STRICTER):
        take(client, STRICTER)
        return
    with pytest.raises(ProtocolError):
        take(client, decode(raw, kind))  # type: ignore[type-var]


def take(client: ClientInstance, request: object) -> None:
    if isinstance(request, MaskRequest):
        client.mask(request, [np.zeros(4, np.uint32)], transcript=TOLD, bases=BASES)
    else:
        assert isinstance(request, SharesRequest)
        client.share(request)


STRICTER = replace(PREPARED.shares, threshold=5)
SEQUENCES = st.lists(REQUESTS, max_size=8)
BITS = (st.sampled_from([PREPARED.shares, PREPARED.mask]), st.integers(0, 10**6), st.integers(0, 7))


@settings(max_examples=300, deadline=None)
@given(SEQUENCES)
def test_no_sequence_gives_both_secrets_or_two_lists(requests: list[tuple[str, object]]) -> None:
    play(requests)


@settings(max_examples=300, deadline=None)
@given(*BITS)
def test_a_flipped_bit_is_refused(request_: object, at: int, bit: int) -> None:
    check_damage(request_, at, bit)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=10_000, deadline=None)
@given(SEQUENCES)
def test_no_sequence_many_times(requests: list[tuple[str, object]]) -> None:
    play(requests)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=10_000, deadline=None)
@given(*BITS)
def test_a_flipped_bit_many_times(request_: object, at: int, bit: int) -> None:
    check_damage(request_, at, bit)


@pytest.mark.parametrize("threshold", [0, 1, 2, 3, 6, 7])
def test_a_threshold_below_the_margin_or_above_all_holders_is_refused(threshold: int) -> None:
    assert PREPARED.shares.threshold == 4
    client = ClientInstance.from_bytes(PREPARED.member, PREPARED.client.to_bytes())
    with pytest.raises(ProtocolError):
        take(client, replace(PREPARED.shares, threshold=threshold))


def test_the_true_sequence_is_among_them() -> None:
    watched = Watched()
    watched.ask("mask", PREPARED.mask)
    survivors = NAMES[:4]
    watched.ask("sign", SignRequest(1, survivors))
    signatures = PREPARED.signatures(survivors, survivors)
    watched.ask("release", UnmaskRequest(1, survivors, signatures))
    assert watched.signed == {survivors}
    assert set(watched.releases[0].mask_keys) == {NAMES[4]}
    other = replace(UnmaskRequest(1, NAMES), signatures={})
    watched.ask("release", other)
    assert len(watched.releases) == 1
