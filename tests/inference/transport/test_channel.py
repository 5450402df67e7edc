"""Frames over real TLS: what passes, what is refused, what is counted, and what ends in time."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.transport import channel as channel_module
from primia_flwr.inference.transport.channel import Channel, Counts
from primia_flwr.inference.transport.connect import VERSION
from primia_flwr.inference.transport.credentials import Role
from primia_flwr.inference.transport.listener import Listener
from tests.inference.links import credentials, linked

MB = 1_000_000
Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = linked("data-owner", "model-owner")
    with near, far:
        yield near, far


@pytest.fixture
def raw() -> Iterator[tuple[ssl.SSLSocket, Channel]]:
    """A party that has shown who it is, and then writes whatever it likes."""
    with Listener(
        "127.0.0.1:0", credentials("model-owner"), accept=["data-owner"], timeout=5
    ) as listener:
        plain = socket.create_connection(("127.0.0.1", listener.port))
        context = credentials("data-owner").context(server=False)
        link = context.wrap_socket(plain, server_hostname="127.0.0.1")
        far = listener.accept(5)
    assert far is not None
    assert link.recv(100) == b"\xff" + struct.pack(">Q", len(VERSION)) + VERSION
    with link, far:
        yield link, far


def meanwhile(work: Callable[[], object]) -> threading.Thread:
    """Start `work` in a thread; an error in it is the other side's to notice."""

    def quietly() -> None:
        with suppress(ServiceError, ProtocolError, OSError):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def test_parts_arrive_as_one_body_and_are_counted_by_hand(pair: Pair) -> None:
    near, far = pair
    big = np.arange(20_000, dtype=np.uint64).reshape(100, 200)
    near.send(3, b"ab", np.array([1, 2], np.uint64), memoryview(b""), np.empty((0, 4)), big)
    body = far.receive(3, at_most=160_018)
    assert bytes(body[:2]) == b"ab"
    assert np.array_equal(np.frombuffer(body, np.uint64, offset=2), [1, 2, *range(20_000)])
    far.send(4)
    assert near.receive_any({9: 5, 4: 0}) == (4, bytearray())
    # 2 + 16 + 160,000 bytes of body; 9 of header each; the welcome does not count.
    assert near.counts == Counts(160_027, 9, 1, 1)
    assert far.counts == Counts(9, 160_027, 1, 1)


def test_each_knows_the_other(pair: Pair) -> None:
    near, far = pair
    assert (near.peer.role, near.peer.name) == ("model-owner", "trial")
    assert (far.peer.role, far.peer.name) == ("data-owner", "clinic-a")
    assert far.peer.fingerprint == credentials("data-owner").own.fingerprint


@pytest.mark.parametrize(
    "roles", [("crypto-provider", "data-owner"), ("model-owner", "crypto-provider")]
)
def test_linked_gives_the_channels_in_the_order_asked_for(roles: tuple[Role, Role]) -> None:
    first, second = linked(*roles)
    with first, second:
        assert (first.peer.role, second.peer.role) == (roles[1], roles[0])


def test_another_kind_is_refused_and_both_know_why(pair: Pair) -> None:
    near, far = pair
    near.send(5, b"x")
    with pytest.raises(ProtocolError, match="data-owner clinic-a sent a frame of kind 5; expected"):
        far.receive_any({6: 1, 7: 1})
    far.fail("kind 5 instead of 6 or 7")
    with pytest.raises(ServiceError, match=r"^model-owner trial: kind 5 instead of 6 or 7$"):
        near.receive(1, at_most=1)


def test_a_frame_one_byte_too_long_is_refused(pair: Pair) -> None:
    near, far = pair
    near.send(5, bytes(11))
    with pytest.raises(ProtocolError, match="kind 5 with 11 bytes; expected at most 10"):
        far.receive(5, at_most=10)


def test_a_claimed_length_allocates_nothing(raw: tuple[ssl.SSLSocket, Channel]) -> None:
    link, far = raw
    link.sendall(struct.pack(">BQ", 5, 1 << 63))
    tracemalloc.start()
    with pytest.raises(ProtocolError, match="expected at most 5000000000"):
        far.receive(5, at_most=5_000_000_000)
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


def test_what_is_allocated_follows_what_came(raw: tuple[ssl.SSLSocket, Channel]) -> None:
    link, far = raw
    link.sendall(struct.pack(">BQ", 5, 4_000_000_000) + bytes(1000))
    link.close()
    tracemalloc.start()
    with pytest.raises(ServiceError, match="closed by it after 1000 of 4000000000 bytes of a fram"):
        far.receive(5, at_most=5_000_000_000)
    assert tracemalloc.get_traced_memory()[1] < 600_000, "one step ahead"
    tracemalloc.stop()


def test_a_stream_that_ends_inside_a_header(raw: tuple[ssl.SSLSocket, Channel]) -> None:
    link, far = raw
    link.sendall(b"\x05\0\0")
    link.close()
    with pytest.raises(ServiceError, match="clinic-a was closed by it after 3 of 9 bytes of a hea"):
        far.receive(5, at_most=10)


def test_a_peer_that_closes_between_frames(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(ServiceError, match="the link to data-owner clinic-a was closed by it; exp"):
        pair[1].receive(5, at_most=10)
    with pytest.raises(ServiceError, match="the link to data-owner clinic-a is closed"):
        pair[1].send(5)


def test_a_peer_that_is_reset(raw: tuple[ssl.SSLSocket, Channel]) -> None:
    link, far = raw
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.socket(fileno=link.detach()).close()
    with pytest.raises(ServiceError, match=r"the link to data-owner clinic-a (broke|was)"):
        far.receive(5, at_most=10)


def test_silence_ends_in_time_and_can_be_waited_for_again(pair: Pair) -> None:
    near, far = pair
    far.timeout = 0.2
    begun = time.monotonic()
    with pytest.raises(ServiceError, match=r"clinic-a keeps this party waiting: 0 bytes in 0\.\d"):
        far.receive(5, at_most=10)
    assert 0.2 <= time.monotonic() - begun < 1
    near.send(5, b"late")
    assert far.receive(5, at_most=10) == b"late"


def test_a_trickle_ends_in_time(raw: tuple[ssl.SSLSocket, Channel]) -> None:
    link, far = raw
    far.timeout = 0.4

    def trickle() -> None:
        link.sendall(struct.pack(">BQ", 5, 1000))
        for _ in range(100):
            link.sendall(b"x")
            time.sleep(0.05)

    meanwhile(trickle)
    begun = time.monotonic()
    with pytest.raises(ServiceError, match="of 1000 bytes of a frame of kind 5"):
        far.receive(5, at_most=1000)
    assert time.monotonic() - begun < 1.5


def test_a_slow_line_is_no_trickle(
    raw: tuple[ssl.SSLSocket, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "LEAST_RATE", 20_000)
    link, far = raw
    far.timeout = 0.4

    def slow() -> None:
        link.sendall(struct.pack(">BQ", 5, 100_000))
        for _ in range(10):
            link.sendall(bytes(10_000))
            time.sleep(0.1)

    meanwhile(slow)
    assert far.receive(5, at_most=100_000) == bytes(100_000)


def test_a_peer_that_takes_nothing_ends_a_send(pair: Pair) -> None:
    near = pair[0]
    near.timeout = 0.3
    with pytest.raises(ServiceError, match=r"trial keeps this party waiting: .* \(sending\)"):
        near.send(5, bytes(50 * MB))
    with pytest.raises(ServiceError, match=r"was closed by it after \d+ of 50000000 bytes"):
        pair[1].receive(5, at_most=50 * MB)
    near.fail("in vain")
    with pytest.raises(ServiceError, match="is closed"):
        near.send(5)


def test_both_send_50_mb_at_once(pair: Pair) -> None:
    near, far = pair
    one, two = os.urandom(1 << 20) * 50, os.urandom(1 << 20) * 50
    got: list[bytearray] = []
    thread = meanwhile(lambda: got.append(near.exchange(8, one, at_most=len(two))))
    assert far.exchange(8, two, at_most=len(one)) == one
    thread.join(10)
    assert got == [two]
    assert near.counts == far.counts == Counts(50 * 2**20 + 9, 50 * 2**20 + 9, 1, 1)


def test_an_exchange_of_different_sizes(pair: Pair) -> None:
    near, far = pair
    thread = meanwhile(lambda: near.exchange(8, at_most=MB))
    assert far.exchange(8, bytes(MB), at_most=0) == b""
    thread.join(10)
    assert near.counts == Counts(9, MB + 9, 1, 1)


def test_a_failure_is_heard_in_the_midst_of_a_send(pair: Pair) -> None:
    near, far = pair

    def refuse() -> None:
        with suppress(ProtocolError):
            far.receive(1, at_most=10)
        far.fail("too much")

    def send_and_listen() -> None:
        near.send(1, bytes(100 * MB))
        near.receive(2, at_most=10)  # what had gone out by then counts as sent

    meanwhile(refuse)
    with pytest.raises(ServiceError, match=r"^model-owner trial: too much$"):
        send_and_listen()


def test_a_failure_behind_other_frames_is_heard_in_its_turn(pair: Pair) -> None:
    near, far = pair
    near.send(1, b"first")
    near.send(2, b"second")
    near.fail("third")
    assert far.receive(1, at_most=10) == b"first"
    assert far.receive(2, at_most=10) == b"second"
    with pytest.raises(ServiceError, match="clinic-a: third"):
        far.exchange(3, bytes(30), at_most=30)


def test_a_frame_that_comes_while_another_goes_out_waits(pair: Pair) -> None:
    near, far = pair
    far.send(7, b"early")
    got: list[bytearray] = []
    thread = meanwhile(lambda: got.append(far.receive(1, at_most=30 * MB)))
    near.send(1, bytes(30 * MB))
    thread.join(10)
    assert len(got[0]) == 30 * MB
    assert near.receive(7, at_most=5) == b"early"


def test_what_was_sent_counts_though_the_peer_has_closed(pair: Pair) -> None:
    near, far = pair
    far.close()
    time.sleep(0.05)
    near.send(1, b"x")
    assert near.counts == Counts(10, 0, 1, 0)
    with pytest.raises(ServiceError, match=r"was closed by it|broke"):
        near.receive(1, at_most=1)


def test_one_that_fails_takes_in_what_is_still_sent(raw: tuple[ssl.SSLSocket, Channel]) -> None:
    """Or the system would reset the link, and throw the last sentence away with it."""
    link, far = raw
    link.sendall(bytes(100_000))
    far.fail("enough")
    for _ in range(5):
        link.sendall(bytes(100_000))
        time.sleep(0.02)
    assert link.recv(100) == struct.pack(">BQ", 0, 6) + b"enough"


def test_a_message_is_cleaned_and_cut(pair: Pair) -> None:
    near, far = pair
    far.fail("\x1b[31mred\x07\n line\u202e\0 " + "ü" * 1500)
    with pytest.raises(ServiceError) as caught:
        near.receive(1, at_most=1)
    text = str(caught.value)
    assert text.startswith("model-owner trial: [31mred line üü")
    assert text.isprintable()
    # 2,000 bytes: "[31mred line " has 13, the rest are whole letters of 2 bytes.
    assert text.count("ü") == (2000 - 13) // 2


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"\xff\x1b[2Jgone\r\n", "\ufffd [2Jgone"), (b"", "(no reason given)")],
)
def test_a_raw_error_is_cleaned_by_the_one_who_reads_it(
    raw: tuple[ssl.SSLSocket, Channel], body: bytes, text: str
) -> None:
    link, far = raw
    link.sendall(struct.pack(">BQ", 0, len(body)) + body)
    with pytest.raises(ServiceError) as caught:
        far.receive(1, at_most=1)
    assert str(caught.value) == f"data-owner clinic-a: {text}"


def test_an_error_that_is_too_long_is_refused(raw: tuple[ssl.SSLSocket, Channel]) -> None:
    link, far = raw
    link.sendall(struct.pack(">BQ", 0, 2001))
    with pytest.raises(ProtocolError, match="kind 0 with 2001 bytes; expected at most 2000"):
        far.receive(1, at_most=5000)


def test_closing_twice_calls_back_once() -> None:
    near, far = linked("model-owner", "crypto-provider")
    calls: list[int] = []
    near.on_close = lambda: calls.append(1)
    near.close()
    near.close()
    near.fail("too late")
    far.close()
    assert calls == [1]
