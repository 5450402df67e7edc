"""The crypto provider: brings the two parties of a session together and deals to them.

It sees neither image nor weights, only the shapes of what they need. Each party gets its own half
alone, by the role in its certificate. Nothing of a session is kept once it is over, and no block
is dealt twice.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from primia_flwr.errors import PrimiaError, ProtocolError, ServiceError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.arithmetic.randomness import fresh_seed
from primia_flwr.inference.correlation_spec import MAX_BYTES, CorrelationSpec
from primia_flwr.inference.preprocessing.dealing import Dealer
from primia_flwr.inference.protocol.memory import Budget, dealing_bytes
from primia_flwr.inference.service import crypten_batches as stock
from primia_flwr.inference.transport.channel import Channel, wait_for_any
from primia_flwr.inference.transport.keepalive import FIRST_WORD_SECONDS, LOOK_SECONDS, Answering
from primia_flwr.inference.transport.messages import MAX_JSON_BYTES, Join, Kind, unpack

logger = logging.getLogger(__name__)

_OnBlock = Callable[[str, int], None]
_WISHES: dict[int, int] = {Kind.WANT: 8, Kind.GOODBYE: 0}


@dataclass
class _Guest:
    """A party that has come for a session."""

    channel: Channel
    request: Join
    spec: CorrelationSpec
    served: threading.Event = field(default_factory=threading.Event)


class Provider:
    """Serves sessions, each between one data owner and one model owner.

    Parameters
    ----------
    patience : float
        Seconds for which a party waits for its peer.
    idle : float
        Seconds without a block after which a session ends, while both parties are there.
    on_block : callable
        Told the session's two names and how many blocks it has had.
    device : torch.device
        Of the products.
    room : int or None
        Bytes of memory that all sessions may take together; None: without a bound.
    threads : int
        For the comparisons of a session.
    """

    def __init__(
        self,
        *,
        patience: float = 60.0,
        idle: float = 72 * 3600.0,
        on_block: _OnBlock = lambda *_: None,
        device: torch.device = ring.CPU,
        room: int | None = None,
        threads: int = 1,
    ) -> None:
        self._device, self._budget, self._threads = device, Budget(room), threads
        self._patience, self._idle, self._on_block = patience, idle, on_block
        self._waiting: dict[str, _Guest] = {}
        self._lock = threading.Lock()

    def serve(self, channel: Channel) -> None:
        """Serve one connection until its session is over; whatever goes wrong is told to it."""
        try:
            guest = self._welcome(channel)
            first = self._meet(guest)
            if first is None:
                self._wait(guest)
                return
            try:
                self._session(first, guest)
            finally:
                first.served.set()
        except PrimiaError as error:
            logger.warning("%s: %s", channel.peer, error)
            channel.fail(str(error))

    def _welcome(self, channel: Channel) -> _Guest:
        with channel.within(FIRST_WORD_SECONDS):
            request = unpack(channel.receive(Kind.JOIN, at_most=MAX_JSON_BYTES), Join)
            if request.protocol == stock.PROTOCOL:
                return _Guest(channel, request, CorrelationSpec((), (), ()))
            spec = CorrelationSpec.from_bytes(bytes(channel.receive(Kind.JOIN, at_most=MAX_BYTES)))
        return _Guest(channel, request, spec)

    def _meet(self, guest: _Guest) -> _Guest | None:
        """Return the peer that has waited, or None after putting the guest down as waiting."""
        with self._lock:
            first = self._waiting.pop(guest.request.session, None)
            if first is None:
                self._waiting[guest.request.session] = guest
                return None
        return first

    def _wait(self, guest: _Guest) -> None:
        """Wait for the peer, then for the end of the session, which the peer's thread serves."""
        if guest.served.wait(self._patience):
            return
        with self._lock:
            lonely = self._waiting.get(guest.request.session) is guest
            if lonely:
                del self._waiting[guest.request.session]
        if lonely:
            raise ServiceError(
                f"the other party of this session did not come within {self._patience:g} s; is it "
                "running, and can it reach the crypto provider?"
            )
        guest.served.wait()

    def _session(self, one: _Guest, other: _Guest) -> None:
        channels = one.channel, other.channel
        try:
            data_owner, model_owner = _sorted(one, other)
            if one.request.protocol == stock.PROTOCOL:
                stock.deal(data_owner.channel, model_owner.channel)
            else:
                with self._budget.reserve(dealing_bytes(data_owner.spec)):
                    self._deal(data_owner, model_owner)
        except PrimiaError as error:
            logger.warning("session of %s and %s: %s", channels[0].peer, channels[1].peer, error)
            for channel in channels:
                channel.fail(str(error))
        finally:
            for channel in channels:
                channel.close()

    def _deal(self, data_owner: _Guest, model_owner: _Guest) -> None:
        """Deal block after block, each when both have asked for it, until one says goodbye."""
        seed = fresh_seed()
        model_owner.channel.send(Kind.JOINED, seed)
        data_owner.channel.send(Kind.JOINED)
        both = data_owner.channel, model_owner.channel
        names = f"{both[0].peer.name}, {both[1].peer.name}"
        dealer = Dealer(data_owner.spec, seed, device=self._device, threads=self._threads)
        number = 0
        while _both_want(both, number, self._idle):
            _send(both, dealer.block())
            number += 1
            self._on_block(names, number)


def _send(both: Sequence[Channel], parts: Iterable[tuple[bytes, bytes]]) -> None:
    """Send parts to both at the same time, and deal the next one meanwhile."""
    with ThreadPoolExecutor(len(both)) as pool:
        sending: list[Future[None]] = []
        for pair in parts:
            for one in sending:
                one.result()
            sending = [
                pool.submit(channel.send, Kind.PART, part)
                for channel, part in zip(both, pair, strict=True)
            ]
        for one in sending:
            one.result()


def _both_want(both: Sequence[Channel], number: int, idle: float) -> bool:
    """Wait until both parties have wished for a block; False: one of them needs no more."""
    peers = {channel: Answering(channel) for channel in both}
    wishes: dict[Channel, bool] = {}
    end = time.monotonic() + idle
    while len(wishes) < len(both):
        present = [channel for channel in both if wishes.get(channel, True)]
        wait_for_any(present, LOOK_SECONDS)
        for channel in present:
            limits: dict[int, int] = {} if channel in wishes else _WISHES
            if (heard := peers[channel].poll(limits, 0.0)) is not None:
                wishes[channel] = _is_wish(channel, *heard, number)
        if time.monotonic() > end:
            raise ServiceError(f"no block was wished for in {idle / 3600:g} hours")
    return all(wishes.values())


def _is_wish(channel: Channel, kind: int, body: bytearray, number: int) -> bool:
    if kind == Kind.GOODBYE:
        return False
    if len(body) != 8:
        raise ProtocolError(f"{channel.peer} names a block in {len(body)} bytes; expected 8")
    wanted = int.from_bytes(body, "big")
    if wanted != number:
        raise ProtocolError(
            f"{channel.peer} asks for block {wanted}; expected {number}: each is dealt once"
        )
    return True


def _sorted(one: _Guest, other: _Guest) -> tuple[_Guest, _Guest]:
    """Return data owner and model owner, which agree on everything."""
    roles = {guest.channel.peer.role: guest for guest in (one, other)}
    if set(roles) != {"data-owner", "model-owner"}:
        raise ProtocolError(
            f"a session of {one.channel.peer} and {other.channel.peer}; expected a data owner and "
            "a model owner"
        )
    for guest, peer in ((one, other), (other, one)):
        if guest.request.peer != peer.channel.peer.fingerprint:
            raise ProtocolError(
                f"{guest.channel.peer} talks to the certificate {guest.request.peer:.95}, but "
                f"{peer.channel.peer} came; expected both ends of one line: is somebody between "
                "them?"
            )
    if one.request.protocol != other.request.protocol or one.spec != other.spec:
        raise ProtocolError("the two parties of a session need different randomness")
    return roles["data-owner"], roles["model-owner"]
