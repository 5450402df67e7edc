"""One mutually authenticated connection (TLS 1.3) between two parties, and its frames.

A call that sends or receives never blocks the other direction, so an error of the peer is heard
while a long frame goes out, and two big frames may cross. It ends with an error when nothing has
moved for `timeout` seconds, or when it has lasted `timeout` seconds and one more for every
`LEAST_RATE` bytes: a big frame on a slow line passes, a peer that trickles does not.

Source: RFC 8446 (TLS 1.3).
"""

import contextlib
import math
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.transport.credentials import Peer
from primia_flwr.inference.transport.frames import (
    ERROR,
    HEADER_BYTES,
    FrameReader,
    Part,
    frame,
    printable,
)

LEAST_RATE = 1 << 15  # bytes per second
_PIECE_BYTES = 1 << 16  # what one call of TLS encrypts
_LAST_WORDS = 2.0  # seconds for an error frame to be sent, and to be read


@dataclass
class Counts:
    """What has gone over a channel since it was opened: frames, and their bytes with headers."""

    bytes_sent: int = 0
    bytes_received: int = 0
    frames_sent: int = 0
    frames_received: int = 0


class Channel:
    """A link to one party that has shown who it is. Not for two threads at once.

    Parameters
    ----------
    link : ssl.SSLSocket
        Connected, with the handshake done.
    peer : Peer
        Whom the handshake has shown to be at the other end.
    timeout : float
        Seconds of silence after which a call ends; may be set at any time.

    Attributes
    ----------
    on_close : callable
        Called once, when the channel is closed.
    """

    def __init__(self, link: ssl.SSLSocket, peer: Peer, *, timeout: float) -> None:
        self.peer = peer
        self.timeout = timeout
        self.counts = Counts()
        self.on_close: Callable[[], None] = lambda: None
        self._link = link
        self._closed = False
        self._inside_a_frame = False
        self._reader = FrameReader()
        self._poll = select.poll()
        link.setblocking(False)
        self._poll.register(link, 0)

    def send(self, kind: int, *parts: Part) -> None:
        """Send one frame, whose body is the bytes of `parts`, one after the other.

        Raises
        ------
        ServiceError
            If the peer takes nothing for `timeout` seconds, has gone, or sends an error.
        """
        self._move(frame(kind, parts), {})

    def receive(self, kind: int, *, at_most: int) -> bytearray:
        """Return the body of the next frame, which must be of this kind.

        Raises
        ------
        ProtocolError
            If it is of another kind or longer than `at_most` bytes; its body is not read.
        ServiceError
            If nothing comes for `timeout` seconds, the peer has gone, or sends an error.
        """
        return self.receive_any({kind: at_most})[1]

    def receive_any(self, limits: Mapping[int, int]) -> tuple[int, bytearray]:
        """Return kind and body of the next frame; `limits` has the allowed kinds' longest bodies.

        Raises
        ------
        ProtocolError, ServiceError
            As `receive`.
        """
        self._move(deque(), limits)
        return self._take()

    def poll(self, limits: Mapping[int, int], wait: float) -> tuple[int, bytearray] | None:
        """Return the next frame as `receive_any`, or None if none begins within `wait` seconds.

        Raises
        ------
        ProtocolError, ServiceError
            As `receive`; the peer's silence is no error before a frame has begun.
        """
        if not self._hears(limits, wait):
            return None
        return self.receive_any(limits)

    def look(self) -> None:
        """Raise what the peer has said, or that it has gone; any other frame stays where it is.

        Raises
        ------
        ServiceError
            If the peer has sent an error, or has gone.
        """
        self._hears({}, 0.0)

    def exchange(self, kind: int, *parts: Part, at_most: int) -> bytearray:
        """Send a frame and receive one of the same kind, both at once; return its body.

        Raises
        ------
        ProtocolError, ServiceError
            As `send` and `receive`.
        """
        self._move(frame(kind, parts), {kind: at_most})
        return self._take()[1]

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Wait for so many seconds at most, where the timeout is longer."""
        usual, self.timeout = self.timeout, min(self.timeout, seconds)
        try:
            yield
        finally:
            self.timeout = usual

    def fail(self, message: str) -> None:
        """Tell the peer one sentence, as far as that is possible, and close.

        Control characters are taken out, and what goes beyond 2,000 bytes. A peer that is in
        the midst of sending hears it too: what it still sends is thrown away in the background.
        """
        if self._closed:
            return
        self.timeout = min(self.timeout, _LAST_WORDS)
        with contextlib.suppress(ServiceError):
            self._move(frame(ERROR, [printable(message).encode()]), None)
        if not self._closed:
            self._closed = True
            threading.Thread(target=say_goodbye, args=(self._link,)).start()
            self.on_close()

    def close(self) -> None:
        """Close the connection; harmless where it is closed."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)
        self._link.close()
        self.on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> tuple[int, bytearray]:
        kind, body = self._reader.take()
        self.counts.frames_received += 1
        self.counts.bytes_received += HEADER_BYTES + len(body)
        return kind, body

    def _hears(self, limits: Mapping[int, int], wait: float) -> bool:
        """Say whether a frame has begun to come, after at most `wait` seconds."""
        with self._named():
            self._reader.expect(limits)
            if self._reader.wanted and (self._link.pending() or self._arrives(wait)):
                self._receive_some()
        return self._reader.started

    def _arrives(self, wait: float) -> bool:
        self._poll.modify(self._link, select.POLLIN)
        return bool(self._poll.poll(math.ceil(wait * 1000)))

    def _move(self, pieces: deque[memoryview], limits: Mapping[int, int] | None) -> None:
        """Send all pieces, and take in a frame of `limits`; with None nothing is read at all."""
        size = sum(len(piece) for piece in pieces)
        with self._named():
            if limits is not None:
                self._reader.expect(limits)
            self._run(pieces, limits)
        if size:
            self.counts.frames_sent += 1
            self.counts.bytes_sent += size

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Name the peer in what goes wrong on an open link."""
        if self._closed or self._inside_a_frame:
            raise ServiceError(f"the link to {self.peer} is closed; expected it to be open")
        try:
            yield
        except ProtocolError as error:
            raise ProtocolError(f"{self.peer} {error}") from None
        except OSError as error:
            self._lose(f"broke ({reason(error)})")

    def _run(self, pieces: deque[memoryview], limits: Mapping[int, int] | None) -> None:
        patience = _Patience(self.timeout)
        self._inside_a_frame = bool(pieces)
        while pieces or (limits and self._reader.wanted):
            moved = self._send_some(pieces) if pieces else 0
            # One that only sends listens while it cannot go on: what it has sent counts as sent.
            listens = limits is not None and self._reader.wanted > 0 and (bool(limits) or not moved)
            moved += self._receive_some() if listens else 0
            self._inside_a_frame = bool(pieces)
            if moved:
                patience.moved(moved)
            else:
                self._wait(patience, sends=bool(pieces), listens=listens)

    def _send_some(self, pieces: deque[memoryview]) -> int:
        try:
            count = self._link.send(pieces[0][:_PIECE_BYTES])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        pieces[0] = pieces[0][count:]
        if not pieces[0]:
            pieces.popleft()
        return count

    def _receive_some(self) -> int:
        try:
            count = self._link.recv_into(self._reader.room())
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        if not count:
            inside = f" after {self._reader.progress()}" if self._reader.started else ""
            self._lose(f"was closed by it{inside}")
        self._reader.arrived(count)
        self._raise_error()
        return count

    def _wait(self, patience: "_Patience", *, sends: bool, listens: bool) -> None:
        left = patience.left()
        if left > 0:
            self._poll.modify(self._link, select.POLLOUT * sends | select.POLLIN * listens)
            self._poll.poll(math.ceil(left * 1000))
            return
        if sends:
            self.close()
        doing = "sending" if sends else self._reader.progress()
        raise ServiceError(
            f"{self.peer} keeps this party waiting: {patience} ({doing}); expected it to answer "
            f"within {self.timeout:g} s; is it still running, and the line good enough?"
        )

    def _lose(self, how: str) -> NoReturn:
        """Close a link that does not work any more, with what the peer may have said at last."""
        with contextlib.suppress(OSError, ProtocolError):
            self._reader.expect({})
            while self._reader.wanted and (count := self._link.recv_into(self._reader.room())):
                self._reader.arrived(count)
        self._raise_error()
        self.close()
        raise ServiceError(
            f"the link to {self.peer} {how}; expected it to stay open; see that party's messages"
        )

    def _raise_error(self) -> None:
        message = self._reader.error()
        if message is not None:
            self.close()
            raise ServiceError(f"{self.peer}: {message or '(no reason given)'}")


def wait_for_any(channels: Sequence[Channel], seconds: float) -> None:
    """Wait until something may have come on one of the channels, for `seconds` at most."""
    poll = select.poll()
    for channel in channels:
        if channel._reader.started or channel._link.pending():
            return
        poll.register(channel._link, select.POLLIN)
    poll.poll(math.ceil(seconds * 1000))


class _Patience:
    """How long a call may still take, by what has moved so far."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._begun = self._last = time.monotonic()
        self._count = 0

    def moved(self, count: int) -> None:
        """Take note of bytes that have just moved."""
        self._count += count
        self._last = time.monotonic()

    def left(self) -> float:
        """Return the seconds until the call ends if nothing moves; 0 or less if it is over."""
        rate_end = self._begun + self._count / LEAST_RATE
        return min(self._last, rate_end) + self._timeout - time.monotonic()

    def __str__(self) -> str:
        lasted = time.monotonic() - self._begun
        return f"{self._count} bytes in {lasted:.1f} s"


def reason(error: OSError) -> str:
    """Return the part of a socket's or TLS' error that says something, in lower case."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return (error.strerror or str(error) or type(error).__name__).lower()


def say_goodbye(link: socket.socket, seconds: float = _LAST_WORDS) -> None:
    """End sending, wait until the peer has closed, so that it reads what was sent last; close.

    Closing while the peer still sends would make the system throw that away.
    """
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_WR)
        while (left := end - time.monotonic()) > 0:
            link.settimeout(left)
            if not link.recv(_PIECE_BYTES):
                break
    link.close()
