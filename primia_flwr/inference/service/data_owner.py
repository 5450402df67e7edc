"""The data owner's side of a session: it asks for a model's opinion on its own images."""

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from primia_flwr.errors import PolicyRefusal, PrimiaError, ProtocolError, ServiceError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.folding import through_front
from primia_flwr.inference.preprocessing.dealing import stored_bytes, tensor
from primia_flwr.inference.preprocessing.prefetch import Prefetch, join
from primia_flwr.inference.preprocessing.store import Store
from primia_flwr.inference.protocol.memory import SessionMemory, check_session, room_for
from primia_flwr.inference.protocol.online import DataOwner
from primia_flwr.inference.protocol.session import (
    PROTOCOL,
    ClosedAtTheEnd,
    Online,
    Settings,
    blocks_ahead,
)
from primia_flwr.inference.service.negotiation import (
    Answer,
    ask_for_offer,
    build_architecture,
    plan_of,
    read_card,
)
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.frames import MAX_ERROR_BYTES, printable
from primia_flwr.inference.transport.keepalive import Keepalive
from primia_flwr.inference.transport.messages import OPEN_ENDED, Join, Kind, session_of
from primia_flwr.models.layers.front_end import split_front


class Session(ClosedAtTheEnd):
    """One session with a model owner; a context manager.

    Parameters
    ----------
    channel : Channel
        To the model owner; the session's own from now on.
    to_provider : callable
        Opens a channel to the crypto provider.
    own_fingerprint : str
        Of this party's certificate.
    batch, batches : int
        Images a batch, and how many batches; `OPEN_ENDED` for as many as come.
    settings : Settings
        This party's choices.
    on_fetched : callable
        Told how many blocks have come.

    Raises
    ------
    PrimiaError
        If a party refuses, or offers what cannot be.
    """

    def __init__(
        self,
        channel: Channel,
        to_provider: Callable[[], Channel],
        *,
        own_fingerprint: str,
        batch: int,
        batches: int,
        settings: Settings,
        on_fetched: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._channel, self._settings = channel, settings
        self._fingerprint, self._on_fetched = own_fingerprint, on_fetched
        self._next = 0
        self.batches = batches
        started = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(channel)
            self._set_up(stack, to_provider, batch)
            self._resources = stack.pop_all()
        self.set_up_seconds = time.monotonic() - started
        self.set_up_bytes = channel.counts.bytes_received

    def _set_up(self, stack: ExitStack, to_provider: Callable[[], Channel], batch: int) -> None:
        channel, settings = self._channel, self._settings
        audit = settings.audit
        hello, self.offer = ask_for_offer(channel, PROTOCOL, batch, self.batches, audit=audit)
        self.card = read_card(self.offer)
        self.plan = plan_of(self.card, self.offer, batch, audit=audit)
        self._front, _ = split_front(build_architecture(self.card))
        memory = SessionMemory.of(ring.DATA_OWNER, self.plan)
        check_session(memory, batch=batch, room=room_for(settings.max_memory))
        spec = CorrelationSpec.of(self.plan)
        room = blocks_ahead(settings, stored_bytes(ring.DATA_OWNER, spec))
        self._ahead = min(room, self.offer.ahead)
        peer = channel.peer.fingerprint
        session = session_of(hello, self.offer, self._fingerprint, peer)
        provider = stack.enter_context(to_provider())
        join(provider, Join(session.hex(), peer, PROTOCOL), spec, peer=channel.look)
        masked_weights = _receive_masked_weights(channel, spec, settings.device)
        self._vigil = Keepalive(channel)
        store = Store(settings.store, session, limit_bytes=settings.store_bytes)
        stack.callback(store.close)
        self._supply = Prefetch(
            ring.DATA_OWNER,
            provider,
            spec,
            store,
            total=hello.most_batches,
            ahead=self._ahead,
            in_a_row=self.batches != OPEN_ENDED,
            masked_weights=masked_weights,
            on_fetched=self._on_fetched,
        )
        stack.callback(self._supply.close)

    def fetch_ahead(self) -> None:
        """Wait until as many blocks wait as may."""
        for count in range(1, min(self._ahead, self.batches) + 1):
            self._supply.wait_for(count, self._settings.patience, meanwhile=self._vigil.look)

    @property
    def rounds(self) -> int:
        """One-way delays from the masked image to the scores."""
        return self.plan.flights

    @property
    def bytes_dealt(self) -> int:
        """What has come from the crypto provider so far."""
        return self._supply.bytes_received

    def classify(self, images: Tensor) -> Answer:
        """Have a batch of normalised images (N, C, H, W), float, classified.

        What an audit finds ends nothing, nor do scores that cannot be right: see `Answer`.

        Raises
        ------
        PolicyRefusal
            If an open-ended session's model owner takes no batch now; it may be asked again.
        PrimiaError
            If a party fails; the block is burned, and the session is of no more use.
        """
        number, patience = self._next, self._settings.patience
        self._supply.wait_open(number, patience, meanwhile=self._vigil.look)
        counts = self._channel.counts
        sent, received = counts.bytes_sent, counts.bytes_received
        self._begin(number)
        self._next = number + 1
        with self._supply.block(number, patience) as prepared:
            started = time.monotonic()
            party = DataOwner(
                self.plan,
                prepared,
                Online(self._channel),
                threads=self._settings.threads,
                score_limit=self.offer.score_limit,
            )
            del prepared
            with torch.inference_mode():
                scores = party.classify(through_front(self._front, images))
            del party  # before the next block is opened: one of them is in memory at a time
            seconds = time.monotonic() - started
        return Answer(scores, seconds, counts.bytes_sent - sent, counts.bytes_received - received)

    def maintain(self) -> None:
        """See to the session while there is nothing to classify: call it every second or so.

        Raises
        ------
        PrimiaError
            If the model owner has gone, or there is no randomness and none will come.
        """
        self._vigil.look()
        self._supply.check()

    @property
    def is_ready(self) -> bool:
        """Whether a block is open, so that an image waits for nothing but the computation."""
        return self._supply.is_ready

    @property
    def waiting(self) -> int:
        """How many batches there is randomness for."""
        return self._supply.waiting

    @property
    def most_waiting(self) -> int:
        """How many that can be: those in the store, and the open one."""
        return self._ahead + 1

    @property
    def fading(self) -> PrimiaError | None:
        """Why no more randomness comes, or None; what waits can still be used."""
        return self._supply.error

    def _begin(self, number: int) -> None:
        """Ask for the next batch, and wait until the model owner's block is open too."""
        self._channel.send(Kind.BEGIN, number.to_bytes(8, "big"))
        usual, self._channel.timeout = self._channel.timeout, self._settings.patience
        answers: dict[int, int] = {Kind.BEGIN: 0}
        if self.batches == OPEN_ENDED:
            answers[Kind.REFUSED] = MAX_ERROR_BYTES
        kind, why = self._vigil.receive_any(answers)
        self._channel.timeout = usual
        if kind == Kind.REFUSED:
            raise PolicyRefusal(printable(why.decode(errors="replace")))

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ServiceError):  # all is done: who has gone need not hear it
            self._channel.send(Kind.GOODBYE)


def _receive_masked_weights(
    channel: Channel, spec: CorrelationSpec, device: torch.device
) -> list[Tensor]:
    received = []
    for product in spec.products:
        size = int(np.prod(product.weight_shape))
        raw = channel.receive(Kind.WEIGHTS, at_most=8 * size)
        if len(raw) != 8 * size:
            raise ProtocolError(f"masked weights of {len(raw)} bytes; expected {8 * size}")
        masked = tensor(np.frombuffer(raw, np.uint64)).reshape(product.weight_shape)
        received.append(ring.place(masked, device))
    return received
