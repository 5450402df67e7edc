"""The listening side: parties are let in one by one, strangers are turned away and written down.

A handshake begins when the other side has said something, and has a thread and a time limit of
its own, so a stranger that connects and says nothing keeps nobody waiting. Where too many are
looked at, the one goes that has waited longest, of the address that has most. A party has a share
of the places for its role, so that none can hold all. Nothing that a stranger sends ends the
listener.
"""

import contextlib
import logging
import math
import queue
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from primia_flwr.errors import PrimiaError, ServiceError
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import answer, split_address, welcome
from primia_flwr.inference.transport.credentials import Credentials, Peer, Role, soon_over
from primia_flwr.inference.transport.frames import printable

logger = logging.getLogger(__name__)

_MAX_HANDSHAKES = 32
_MAX_SILENT = 128  # connections on which nothing has come yet: they cost a descriptor, no thread
_PAUSE = 0.5  # seconds, where the system cannot accept (no file descriptors left, say)


@dataclass(frozen=True)
class Places:
    """How many channels all parties of a role may have open at once, and `each` one of them."""

    most: int
    each: int


@dataclass
class _Occupied:
    """How many channels are open, by role and by party."""

    places: Mapping[Role, Places]
    _open: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, peer: Peer) -> None:
        """Take a place.

        Raises
        ------
        ServiceError
            If there is none for this party.
        """
        places, party = self.places[peer.role], _party(peer)
        with self._lock:
            if self._open[party] >= places.each:
                raise ServiceError(
                    f"{peer.name} has {places.each} connections here, which is the limit for one "
                    "party"
                )
            if self._open[peer.role] >= places.most:
                raise ServiceError(
                    f"{places.most} connections are open here, which is the limit for {peer.role}s"
                )
            self._open.update((party, peer.role))

    def leave(self, peer: Peer) -> None:
        """Give a place back."""
        with self._lock:
            self._open.subtract((_party(peer), peer.role))
            self._open += Counter()  # keeps no name with nothing open


class Listener:
    """Accepts the parties of a service at one address.

    Parameters
    ----------
    address : str
        `host:port` to listen at; port 0 lets the system choose.
    credentials : Credentials
        This party's, whose peers file says who may come in.
    accept : collection of Role
        The roles that may come in here.
    timeout : float
        Seconds of silence after which a call on a channel ends.
    handshake_timeout : float
        Seconds in which a party must have shown who it is.
    max_connections : int
        Channels open at once for each role; a party beyond them is told so and turned away.
    places : mapping of Role to Places
        The same by role, and how many of them one party may have; `max_connections` where missing.

    Raises
    ------
    ConfigError
        If the address is none.
    ServiceError
        If it cannot be listened at.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        accept: Collection[Role],
        timeout: float = 30.0,
        handshake_timeout: float = 5.0,
        max_connections: int = 16,
        places: Mapping[Role, Places] | None = None,
    ) -> None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            raise ServiceError(
                f"address={address} cannot be listened at ({error.strerror or error}); expected a "
                "free port of an address of this machine"
            ) from None
        self._credentials = credentials
        self._accept = tuple(accept)
        self._timeout = timeout
        self._handshake_timeout = handshake_timeout
        anybody = Places(max_connections, max_connections)
        self._occupied = _Occupied({role: anybody for role in accept} | dict(places or {}))
        self._greeted = _Greeted()
        self._silent: dict[int, _Caller] = {}  # by descriptor, oldest first
        self._ready: queue.Queue[Channel | None] = queue.Queue()
        self._closed = threading.Event()
        self._bell, self._ringer = socket.socketpair()
        self._socket.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened at."""
        port: int = self._socket.getsockname()[1]
        return port

    def accept(self, wait: float | None = None) -> Channel | None:
        """Return the channel to the next party; None if none came in `wait` seconds, or closed."""
        try:
            channel = self._ready.get(timeout=wait)
        except queue.Empty:
            return None
        if channel is None:
            self._ready.put(None)
        return channel

    def __iter__(self) -> Iterator[Channel]:
        """Yield the channel to each party that comes, until the listener is closed."""
        while (channel := self.accept()) is not None:
            yield channel

    def close(self) -> None:
        """Listen no more; channels that were accepted stay open. Harmless where it is closed."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._ringer.close()
        self._thread.join()
        self._socket.close()
        self._bell.close()
        while not self._ready.empty():
            channel = self._ready.get_nowait()
            if channel is not None:
                channel.close()
        self._ready.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        poll = select.poll()
        for watched in (self._bell, self._socket):
            poll.register(watched, select.POLLIN)
        while not self._closed.is_set():
            for descriptor, _ in poll.poll(self._patience()):
                if descriptor == self._socket.fileno():
                    self._accept_one(poll)
                elif descriptor in self._silent:
                    self._greet_apart(self._stop_waiting(poll, descriptor))
            self._turn_away_the_silent(poll)
        for descriptor in list(self._silent):
            self._stop_waiting(poll, descriptor).socket.close()

    def _patience(self) -> int | None:
        """Return the milliseconds until the next one has been silent for too long."""
        first = next(iter(self._silent.values()), None)
        return None if first is None else max(0, math.ceil(1000 * (first.until - time.monotonic())))

    def _accept_one(self, poll: select.poll) -> None:
        try:
            plain, address = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            logger.warning("a connection could not be accepted: %s", error)
            self._closed.wait(_PAUSE)
            return
        caller = _Caller(plain, address[0], address[1], time.monotonic() + self._handshake_timeout)
        self._silent[plain.fileno()] = caller
        poll.register(plain, select.POLLIN)
        while (oldest := _in_excess(self._silent.values(), _MAX_SILENT)) is not None:
            self._stop_waiting(poll, oldest.socket.fileno()).socket.close()
            _refused(oldest, _crowded(_MAX_SILENT))

    def _stop_waiting(self, poll: select.poll, descriptor: int) -> "_Caller":
        poll.unregister(descriptor)
        return self._silent.pop(descriptor)

    def _turn_away_the_silent(self, poll: select.poll) -> None:
        """End the lines on which nothing has come in time: they never get to a handshake."""
        for descriptor, caller in list(self._silent.items()):
            if caller.until > time.monotonic():
                return
            self._stop_waiting(poll, descriptor).socket.close()
            _refused(caller, "it has not shown who it is (timed out)")

    def _greet_apart(self, caller: "_Caller") -> None:
        try:
            handle = caller.socket.dup()  # the handshake takes the socket itself
        except OSError as error:
            caller.socket.close()
            _refused(caller, str(error))
            return
        self._greeted.add(replace(caller, socket=handle))
        greeting = threading.Thread(target=self._greet, args=(caller, handle), daemon=True)
        greeting.name = f"greeting {caller}"
        greeting.start()

    def _greet(self, caller: "_Caller", handle: socket.socket) -> None:
        try:
            channel = answer(
                caller.socket,
                self._credentials,
                accept=self._accept,
                timeout=self._handshake_timeout,
            )
            self._admit(channel)
        except (PrimiaError, OSError, ValueError) as error:
            made_to_go = self._greeted.made_to_go(handle)
            _refused(caller, f"{_crowded(_MAX_HANDSHAKES)} ({error})" if made_to_go else str(error))
        finally:
            self._greeted.remove(handle)
            handle.close()

    def _admit(self, channel: Channel) -> None:
        peer = channel.peer
        try:
            self._occupied.take(peer)
        except ServiceError as full:
            channel.fail(f"{full}; try again later")
            raise ServiceError(f"{peer}: {full}") from None
        channel.on_close = lambda: self._occupied.leave(peer)
        if ends := soon_over(peer, peer.expires):
            logger.warning("%s", ends)
        try:
            welcome(channel)
        except BaseException:
            channel.close()
            raise
        channel.timeout = self._timeout
        self._ready.put(channel)
        if self._closed.is_set():
            channel.close()


@dataclass(frozen=True)
class _Caller:
    """A connection of which nobody knows yet whose it is; `until`: how long it may be silent."""

    socket: socket.socket
    host: str
    port: int
    until: float

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class _Greeted:
    """The handshakes that go on, oldest first, each with a handle on its connection."""

    def __init__(self) -> None:
        self._callers: dict[socket.socket, _Caller] = {}
        self._gone: set[socket.socket] = set()
        self._lock = threading.Lock()

    def add(self, caller: _Caller) -> None:
        """Add one; where they are too many, another one must go."""
        with self._lock:
            self._callers[caller.socket] = caller
            while (oldest := _in_excess(self._callers.values(), _MAX_HANDSHAKES)) is not None:
                del self._callers[oldest.socket]
                self._gone.add(oldest.socket)
                with contextlib.suppress(OSError):
                    oldest.socket.shutdown(socket.SHUT_RDWR)  # its thread ends with that

    def made_to_go(self, handle: socket.socket) -> bool:
        """Say whether one had to go for others."""
        return handle in self._gone

    def remove(self, handle: socket.socket) -> None:
        """Take one out, whose handshake is over."""
        with self._lock:
            self._gone.discard(handle)
            self._callers.pop(handle, None)


def _in_excess(callers: Collection[_Caller], most: int) -> _Caller | None:
    """Return who must go where there are too many: the oldest of the address that has most."""
    if len(callers) <= most:
        return None
    counts = Counter(caller.host for caller in callers)
    highest = max(counts.values())
    return next(caller for caller in callers if counts[caller.host] == highest)


def _crowded(most: int) -> str:
    return f"{most} others were being looked at, and it had waited longest"


def _party(peer: Peer) -> str:
    return f"{peer.role} {peer.name.lower()}"


def _refused(caller: _Caller, why: str) -> None:
    logger.warning("refused a connection from %s: %s", caller, printable(why))
