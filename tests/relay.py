"""A line between two machines on one: a TCP proxy with a one-way delay and a rate, in user space.

Every piece of at most 64 KiB that arrives passes a token bucket of `rate` bytes a second, which
holds one packet at most, and goes on `delay` seconds after its last byte has passed. The two
directions are alike and share nothing, so both may be full at once. The sender is held up when
more than `_BACKLOG` seconds of the rate wait, as by the queue of a network card.

There is no loss, no reordering, no jitter and no congestion control: TCP's slow start and its
windows see loopback, not the line, so a real line of the same delay and rate is slower for the
first bytes after silence. The end of a direction travels like its bytes.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

THREADS = "relay"  # all its threads' names begin with it
_PIECE_BYTES = 1 << 16
_PACKET_BYTES = 1500
_BACKLOG = 0.02  # seconds
_MOST_PIECES = 1 << 13  # on the way in one direction
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Shape:
    """`delay` in seconds one way; `rate` in bytes a second each way, None: no limit."""

    delay: float = 0.0
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.delay < 0 or (self.rate is not None and self.rate <= 0):
            raise ValueError(f"{self}; expected delay >= 0 and rate > 0")


class Relay:
    """Listens at a port of loopback and passes every connection on to another port of it.

    Parameters
    ----------
    target : int
        The port to connect to.
    shape : Shape
        Of the line; may be set at any time, for what arrives from then on.
    """

    def __init__(self, target: int, shape: Shape | None = None) -> None:
        self.shape = shape or Shape()
        self.target = target
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def close(self) -> None:
        """Cut all connections and listen no more; no thread is left."""
        if self._closing.is_set():
            return
        self._closing.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()  # wakes the listener
        self._threads[0].join()
        self._listener.close()
        with self._lock:
            for link in self._sockets:
                _cut(link)
        for thread in self._threads:
            thread.join()
        for link in self._sockets:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, work: Callable[[], None]) -> None:
        name = f"{THREADS} {self.port} {len(self._threads)}"
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._closing.is_set():
                near.close()
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), _CONNECT_SECONDS)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._sockets |= {near, far}
            for link in (near, far):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((near, far), (far, near)):
                way = _Way(source, sink, self)
                self._start(way.take_in)
                self._start(way.put_out)

    def wait_until(self, due: float) -> None:
        """Sleep until then, of `time.monotonic`, or until the relay is closed."""
        while (left := due - time.monotonic()) > 0 and not self._closing.is_set():
            self._closing.wait(left)


class _Way:
    """One direction of one connection: what is on the way, with the time when it arrives."""

    def __init__(self, source: socket.socket, sink: socket.socket, relay: Relay) -> None:
        self._source, self._sink, self._relay = source, sink, relay
        self._line: queue.Queue[tuple[float, bytes]] = queue.Queue(_MOST_PIECES)
        self._free = 0.0  # when all that has arrived has passed the bucket

    def take_in(self) -> None:
        """Read from the source until it ends; an empty piece is the end."""
        data = b"."
        while data:
            try:
                data = self._source.recv(_PIECE_BYTES)
            except OSError:
                data = b""
            shape, now = self._relay.shape, time.monotonic()
            if shape.rate is None:
                self._free = now
            else:
                filled = max(self._free, now - _PACKET_BYTES / shape.rate)
                self._free = filled + len(data) / shape.rate
            self._line.put((max(self._free, now) + shape.delay, data))
            if self._free - now > _BACKLOG:
                self._relay.wait_until(self._free - _BACKLOG)

    def put_out(self) -> None:
        """Write to the sink what is due; what a broken sink does not take is thrown away."""
        broken = False
        while True:
            due, data = self._line.get()
            self._relay.wait_until(due)
            if not data:
                break
            if not broken:
                try:
                    self._sink.sendall(data)
                except OSError:
                    broken = True
                    _cut(self._source)
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)


def _cut(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
