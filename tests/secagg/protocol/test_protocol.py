"""The whole protocol in one process: right sums, whoever is lost, and indistinguishable bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.protocol.parties import Floor
from primia_flwr.secagg.protocol.wire import _parts
from tests.secagg.federation import Federation, members, total, vectors

STEPS = ("keys", "shares", "vectors", "signatures", "unmask")


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_the_sum_of_all(count: int) -> None:
    everyone = members(count)
    values = vectors(everyone)
    assert np.array_equal(Federation(everyone).run(values), total(values, everyone))


def test_masked_vectors_are_not_the_vectors_and_differ_each_time() -> None:
    everyone = members(3)
    values = vectors(everyone)
    federations = [Federation(everyone, number=number) for number in (1, 2)]
    for federation in federations:
        federation.run(values)
    sent = [raw for f in federations for raw in f.seen if len(raw) == 32]
    clear = [values[name].tobytes() for name in everyone]
    assert len({*sent, *clear}) == 3 + 2 * 3


@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.parametrize("step", STEPS)
def test_one_lost_at_each_step(count: int, step: str) -> None:
    everyone = members(count)
    values = vectors(everyone)
    federation = Federation(everyone)
    result = federation.run(values, {step: ["s002"]})
    counted = set(everyone) - ({"s002"} if step in ("keys", "shares", "vectors") else set())
    assert set(federation.server.survivors) == counted
    assert np.array_equal(result, total(values, counted))


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 9), st.data())
def test_any_losses_give_the_right_sum_or_none(count: int, data: st.DataObject) -> None:
    everyone = members(count)
    values = vectors(everyone, seed=count)
    left = sorted(everyone)
    lost: dict[str, list[str]] = {}
    for step in STEPS:
        lost[step] = data.draw(st.lists(st.sampled_from(left), unique=True, max_size=2))
        left = [name for name in left if name not in lost[step]] or left[:1]
    federation = Federation(everyone)
    try:
        result = federation.run(values, lost)
    except ProtocolError:
        assert len(left) < (count + 1) // 2 + 1 or len(left) < 3
        return
    assert np.array_equal(result, total(values, federation.server.survivors))


def test_three_hospitals_tolerate_no_loss_and_reveal_nothing() -> None:
    everyone = members(3)
    federation = Federation(everyone)
    federation.shares(federation.keys())
    federation.vectors(vectors(everyone), without=["s003"])
    assert not federation.server.can_unmask
    with pytest.raises(ProtocolError, match="min_survivors=3"):
        federation.signatures()
    with pytest.raises(ProtocolError):
        federation.unmask()


def test_two_hospitals_only_if_both_accept_it() -> None:
    with pytest.raises(ProtocolError, match="min_survivors=3"):
        Federation(members(2)).run(vectors(["s001", "s002"]))
    floor = Floor(min_survivors=2, accept_two=True)
    everyone = members(2, floor)
    values = vectors(everyone)
    result = Federation(everyone, floor=floor).run(values)
    assert np.array_equal(result, total(values, everyone))
    careful = members(2)
    with pytest.raises(ProtocolError, match="U1 of 2 sites"):
        Federation(careful, floor=floor).run(values)


def headers(raw: bytes) -> list[object]:
    """Return names and numbers of a message, and the lengths of what is secret or random."""
    if len(raw) == 4 * 4096:
        return ["vector"]
    return [len(part) if isinstance(part, bytes) else part for part in _parts(raw)]


def test_transcripts_of_other_updates_with_the_same_sum_look_the_same() -> None:
    everyone = members(5)
    first = vectors(everyone, size=4096)
    second = dict(first)
    second["s001"], second["s002"] = first["s001"] + np.uint32(7), first["s002"] - np.uint32(7)
    transcripts = []
    for values in (first, second):
        federation = Federation(everyone)
        federation.run(values, {"vectors": ["s005"]})
        transcripts.append(federation.seen)
    one, other = transcripts
    assert [len(raw) for raw in one] == [len(raw) for raw in other]
    assert [headers(raw) for raw in one] == [headers(raw) for raw in other]
    for transcript in transcripts:
        for raw in transcript:
            if len(raw) == 4 * 4096:
                counts = np.bincount(np.frombuffer(raw, np.uint8), minlength=256)
                assert chisquare(counts).pvalue > 1e-9


def test_several_vectors_of_both_rings() -> None:
    everyone = members(4)
    federation = Federation(everyone)
    federation.shares(federation.keys())
    small, large = (
        vectors(everyone),
        {n: np.array([2**63 - i], np.uint64) for i, n in enumerate(everyone)},
    )
    for name, request in federation.server.begin_sum(b"told").items():
        pair = [small[name].copy(), large[name].copy()]
        federation.clients[name].mask(request, pair, transcript=b"told", bases=[b"base"])
        assert not np.array_equal(pair[1], large[name])
        federation.server.add_vectors(name, pair)
    with pytest.raises(ProtocolError, match="one reply of each member"):
        federation.server.add_vectors("s001", [small["s001"]])
    for name, request in federation.server.unmask_requests().items():
        reply = federation.clients[name].release(request, federation.journals[name])
        federation.server.add_release(name, reply)
    sums = federation.server.unmask()
    assert np.array_equal(sums[0], total(small, everyone))
    assert sums[1].tolist() == [(4 * 2**63 - 6) % 2**64]
