"""The relay that stands for a line: what it delays, how fast it is, and that bytes pass as sent."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.relay import THREADS, Relay, Shape

SLACK = 0.15  # seconds by which a busy machine may be late


@contextmanager
def through(shape: Shape) -> Iterator[tuple[socket.socket, socket.socket, Relay]]:
    """Yield both ends of a connection through a relay."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        with Relay(server.getsockname()[1], shape) as relay:
            near = socket.create_connection(("127.0.0.1", relay.port), 10)
            far, _ = server.accept()
            far.settimeout(10)
            with near, far:
                yield near, far, relay


def read(link: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (piece := link.recv(1 << 16)):
        found += piece
    return bytes(found)


def at_once(*works: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_a_byte_and_its_answer_take_two_delays(delay: float) -> None:
    with through(Shape(delay)) as (near, far, _):
        seconds = []
        for _ in range(3):
            start = time.monotonic()
            near.sendall(b"?")
            far.sendall(read(far, 1))
            read(near, 1)
            seconds.append(time.monotonic() - start)
    assert 2 * delay <= min(seconds) <= 2 * delay + SLACK


def test_many_small_pieces_are_on_the_way_at_once() -> None:
    with through(Shape(0.1)) as (near, far, _):
        start = time.monotonic()
        for _ in range(10):
            near.sendall(b"x")
            time.sleep(0.002)
        assert read(far, 10) == b"x" * 10
    assert 0.1 <= time.monotonic() - start <= 0.12 + SLACK


@pytest.mark.parametrize(("rate", "count"), [(1e6, 300_000), (12.5e6, 5_000_000)])
def test_bytes_take_their_time_at_the_rate(rate: float, count: int) -> None:
    with through(Shape(0.05, rate)) as (near, far, _):
        start = time.monotonic()
        at_once(lambda: near.sendall(bytes(count)), lambda: read(far, count))
        seconds = time.monotonic() - start
    # The bucket lends one packet of 1,500 bytes.
    assert 0.05 + (count - 1500) / rate <= seconds <= 0.05 + count / rate + SLACK


def test_a_small_piece_after_silence_waits_for_the_delay_only() -> None:
    with through(Shape(0.05, 1e6)) as (near, far, _):
        near.sendall(bytes(100_000))
        read(far, 100_000)
        time.sleep(0.05)
        start = time.monotonic()
        near.sendall(bytes(1000))
        read(far, 1000)
    assert 0.05 <= time.monotonic() - start <= 0.05 + SLACK


def test_both_directions_have_the_whole_rate_and_bytes_are_unchanged() -> None:
    up, down = os.urandom(2_000_000), os.urandom(2_000_000)
    found: dict[str, bytes] = {}
    with through(Shape(0.01, 1e7)) as (near, far, _):
        start = time.monotonic()
        at_once(
            lambda: near.sendall(up),
            lambda: far.sendall(down),
            lambda: found.update(up=read(far, len(up))),
            lambda: found.update(down=read(near, len(down))),
        )
        seconds = time.monotonic() - start
    assert (found["up"], found["down"]) == (up, down)
    assert 0.2 <= seconds <= 0.21 + 2 * SLACK  # one after the other: 0.4


def test_a_sender_is_held_up_by_a_slow_line() -> None:
    with through(Shape(0, 1e6)) as (near, far, _):
        near.settimeout(0.2)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        with pytest.raises(TimeoutError):
            near.sendall(bytes(50_000_000))


def test_half_close_passes_through_and_the_answer_still_comes() -> None:
    with through(Shape(0.05, 1e7)) as (near, far, _):
        start = time.monotonic()
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert read(far, 100) == b"question"  # up to the end
        assert time.monotonic() - start >= 0.05
        far.sendall(b"answer")
        far.close()
        assert read(near, 100) == b"answer"


def test_the_shape_may_change() -> None:
    with through(Shape(0.2)) as (near, far, relay):
        relay.shape = Shape()
        start = time.monotonic()
        near.sendall(b"x")
        read(far, 1)
    assert time.monotonic() - start <= 0.2


def test_a_connection_ends_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with Relay(port) as relay, socket.create_connection(("127.0.0.1", relay.port), 10) as near:
        assert near.recv(1) == b""


def test_a_peer_that_goes_away_ends_the_other_side() -> None:
    with through(Shape()) as (near, far, _):
        near.sendall(bytes(1000))
        far.close()  # with bytes unread: a reset
        near.settimeout(10)
        for _ in range(100):
            try:
                near.sendall(bytes(1 << 16))
            except OSError:
                break
            time.sleep(0.01)
        else:
            pytest.fail("the sender was never told")


def test_no_thread_and_no_connection_is_left() -> None:
    with through(Shape(5.0, 1e4)) as (near, far, relay):
        near.sendall(bytes(100_000))
        time.sleep(0.05)
        start = time.monotonic()
        relay.close()
        relay.close()
        assert time.monotonic() - start < 2
        assert read(near, 1) == b""
        read(far, 200_000)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(THREADS)]


@pytest.mark.parametrize("wrong", [(-1.0, None), (0.0, 0.0)])
def test_shapes_that_cannot_be_are_refused(wrong: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match="expected delay >= 0 and rate > 0"):
        Shape(*wrong)
