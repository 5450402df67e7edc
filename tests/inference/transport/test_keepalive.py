"""Lines on which nobody speaks, over real TLS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.transport import keepalive as keepalive
from primia_flwr.inference.transport.channel import Channel, wait_for_any
from primia_flwr.inference.transport.keepalive import Answering, Keepalive
from primia_flwr.inference.transport.messages import Kind
from tests.inference.links import linked

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = linked("data-owner", "model-owner", timeout=5)
    yield near, far
    near.close()
    far.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalive, "ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(keepalive, "SILENCE_SECONDS", 0.6)
    monkeypatch.setattr(keepalive, "LOOK_SECONDS", 0.02)


def again_and_again(what: Callable[[], object]) -> None:
    for _ in range(200):
        what()
        time.sleep(0.01)


def test_an_idle_line_lives_on_both_sides(pair: Pair) -> None:
    near, far = pair
    looks, hears = Keepalive(near), Answering(far)
    end = time.monotonic() + 2.0  # more than three times the silence that ends it
    while time.monotonic() < end:
        looks.look()
        assert hears.poll({Kind.BEGIN: 8}, 0.01) is None
    assert far.counts.frames_received >= 5
    assert far.counts.frames_sent >= 5
    near.send(Kind.BEGIN, bytes(8))
    while (heard := hears.poll({Kind.BEGIN: 8}, 1.0)) is None:
        pass
    assert heard == (Kind.BEGIN, bytes(8))


def test_a_peer_that_hangs_is_noticed_by_who_connected(pair: Pair) -> None:
    looks = Keepalive(pair[0])
    started = time.monotonic()
    with pytest.raises(ServiceError, match="has said nothing for"):
        again_and_again(looks.look)
    assert 0.6 < time.monotonic() - started < 4


def test_a_peer_that_hangs_is_noticed_by_who_listens(pair: Pair) -> None:
    hears = Answering(pair[1])
    with pytest.raises(ServiceError, match="has said nothing for"):
        again_and_again(lambda: hears.poll({Kind.BEGIN: 8}, 0.01))


def test_a_peer_that_ends_is_noticed_at_once(pair: Pair) -> None:
    near, far = pair
    far.close()
    with pytest.raises(ServiceError, match="was closed by it"):
        again_and_again(Keepalive(near).look)


def test_the_peers_last_words_are_heard(pair: Pair) -> None:
    near, far = pair
    far.fail("the session ends")
    with pytest.raises(ServiceError, match="the session ends"):
        again_and_again(Keepalive(near).look)


def test_answers_that_come_late_are_passed_over(pair: Pair) -> None:
    near, far = pair
    looks = Keepalive(near)
    for _ in range(3):
        far.send(Kind.ALIVE)
    far.send(Kind.BEGIN)
    assert looks.receive_any({Kind.BEGIN: 0}) == (Kind.BEGIN, b"")


def test_a_frame_that_is_long_in_coming_is_waited_for(pair: Pair) -> None:
    near, far = pair

    def answer() -> None:
        hears, end = Answering(far), time.monotonic() + 1.2
        while time.monotonic() < end:
            hears.poll({}, 0.02)
        far.send(Kind.PART, b"seed")

    thread = threading.Thread(target=answer)
    thread.start()
    assert Keepalive(near).wait_for(Kind.PART, at_most=4) == b"seed"
    thread.join()


def test_anything_else_on_an_idle_line_is_refused(pair: Pair) -> None:
    near, far = pair
    far.send(Kind.WEIGHTS, b"what")
    with pytest.raises(ProtocolError, match="expected kind 11"):
        again_and_again(Keepalive(near).look)


def test_a_look_takes_nothing_but_hears_an_error(pair: Pair) -> None:
    near, far = pair
    far.send(Kind.WEIGHTS, b"what waits")
    for _ in range(5):
        near.look()
        time.sleep(0.01)
    assert near.receive(Kind.WEIGHTS, at_most=10) == b"what waits"
    far.fail("the model owner has given up")
    with pytest.raises(ServiceError, match="has given up"):
        again_and_again(near.look)


def test_who_waits_for_several_is_woken_by_any(pair: Pair) -> None:
    near, far = pair
    started = time.monotonic()
    wait_for_any([near], 0.05)
    assert time.monotonic() - started >= 0.05
    far.send(Kind.ALIVE)
    wait_for_any([near], 5)
    assert time.monotonic() - started < 4
    assert near.poll({Kind.ALIVE: 0}, 1) == (Kind.ALIVE, b"")
    assert near.poll({Kind.ALIVE: 0}, 0) is None
