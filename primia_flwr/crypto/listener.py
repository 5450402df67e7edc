"""The listening side: parties are let in one by one, strangers are turned away and written down.

Each handshake has a thread and a time limit of its own, so a stranger that connects and says
nothing keeps nobody waiting. Nothing that a stranger sends ends the listener.
"""

import logging
import queue
import select
import socket
import threading
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Self

from primia_flwr.crypto.channel import Channel
from primia_flwr.crypto.connect import answer, split_address, welcome
from primia_flwr.crypto.credentials import Credentials, Role
from primia_flwr.crypto.frames import printable
from primia_flwr.errors import PrimiaError, ServiceError

logger = logging.getLogger(__name__)

_MAX_HANDSHAKES = 32
_PAUSE = 0.5  # seconds, where the system cannot accept (no file descriptors left, say)


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
        Channels open at once; a party beyond them is told so and turned away.

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
        handshake_timeout: float = 10.0,
        max_connections: int = 16,
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
        self._max_connections = max_connections
        self._open = threading.BoundedSemaphore(max_connections)
        self._handshakes = threading.BoundedSemaphore(_MAX_HANDSHAKES)
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        while not self._closed.is_set():
            poll.poll()
            try:
                plain, address = self._socket.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                logger.warning("a connection could not be accepted: %s", error)
                self._closed.wait(_PAUSE)
                continue
            self._take_in(plain, f"{address[0]}:{address[1]}")

    def _take_in(self, plain: socket.socket, address: str) -> None:
        if self._handshakes.acquire(blocking=False):
            greeting = threading.Thread(target=self._greet, args=(plain, address), daemon=True)
            greeting.name = f"greeting {address}"
            greeting.start()
            return
        plain.close()
        _refused(address, f"{_MAX_HANDSHAKES} others are being looked at")

    def _greet(self, plain: socket.socket, address: str) -> None:
        try:
            channel = answer(
                plain, self._credentials, accept=self._accept, timeout=self._handshake_timeout
            )
            self._admit(channel)
        except (PrimiaError, OSError, ValueError) as error:
            _refused(address, str(error))
        finally:
            self._handshakes.release()

    def _admit(self, channel: Channel) -> None:
        if not self._open.acquire(blocking=False):
            full = f"{self._max_connections} connections are open here, which is the limit"
            channel.fail(f"{full}; try again later")
            raise ServiceError(f"{channel.peer}: {full}")
        channel.on_close = self._open.release
        try:
            welcome(channel)
        except BaseException:
            channel.close()
            raise
        channel.timeout = self._timeout
        self._ready.put(channel)
        if self._closed.is_set():
            channel.close()


def _refused(address: str, why: str) -> None:
    logger.warning("refused a connection from %s: %s", address, printable(why))
