"""The data owner's side of a session: it asks for a model's opinion on its own images."""

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from primia_flwr.crypto import ring
from primia_flwr.crypto.channel import Channel
from primia_flwr.crypto.dealing import stored_bytes, tensor
from primia_flwr.crypto.messages import Join, Kind, session_of
from primia_flwr.crypto.needs import Needs
from primia_flwr.crypto.offers import Answer, ask_for_offer, plan_of, read_card
from primia_flwr.crypto.online import DataOwner
from primia_flwr.crypto.session import PROTOCOL, Online, Settings, blocks_ahead
from primia_flwr.crypto.store import Store
from primia_flwr.crypto.supply import Supply, join
from primia_flwr.errors import ProtocolError, ServiceError


class Session:
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
        Images a batch, and how many batches.
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
        self._abandoned = False
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
        needs = Needs.of(self.plan)
        room = blocks_ahead(settings, stored_bytes(ring.DATA_OWNER, needs))
        self._ahead = min(room, self.offer.ahead)
        peer = channel.peer.fingerprint
        session = session_of(hello, self.offer, self._fingerprint, peer)
        provider = stack.enter_context(to_provider())
        join(provider, Join(session.hex(), peer, PROTOCOL), needs)
        masked_weights = _receive_masked_weights(channel, needs, settings.device)
        store = Store(settings.store, session, limit_bytes=settings.store_bytes)
        stack.callback(store.close)
        self._supply = Supply(
            ring.DATA_OWNER,
            provider,
            needs,
            store,
            total=self.batches,
            ahead=self._ahead,
            masked_weights=masked_weights,
            on_fetched=self._on_fetched,
        )
        stack.callback(self._supply.close)

    def fetch_ahead(self) -> None:
        """Wait until as many blocks wait as may."""
        for count in range(1, min(self._ahead, self.batches) + 1):
            self._supply.wait_for(count, self._settings.patience)

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

        What an audit finds ends nothing: the answer then has no scores.

        Raises
        ------
        PrimiaError
            If a party fails; the block is burned, and the session is of no more use.
        """
        number, self._next = self._next, self._next + 1
        prepared = self._supply.take(number, self._settings.patience)
        counts = self._channel.counts
        sent, received = counts.bytes_sent, counts.bytes_received
        self._channel.send(Kind.BEGIN, number.to_bytes(8, "big"))
        usual, self._channel.timeout = self._channel.timeout, self._settings.patience
        self._channel.receive(Kind.BEGIN, at_most=0)  # the model owner's block is ready too
        self._channel.timeout = usual
        started = time.monotonic()
        party = DataOwner(
            self.plan, prepared, Online(self._channel), threads=self._settings.threads
        )
        with torch.inference_mode():
            scores = party.classify(images)
        return Answer(
            scores,
            time.monotonic() - started,
            counts.bytes_sent - sent,
            counts.bytes_received - received,
        )

    def abandon(self) -> None:
        """End the session after an error, without a goodbye."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        """End the session; what waits of its randomness is burned."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and not self._abandoned:
            with contextlib.suppress(ServiceError):  # all is done: who has gone need not hear it
                self._channel.send(Kind.GOODBYE)
        self.close()


def _receive_masked_weights(channel: Channel, needs: Needs, device: torch.device) -> list[Tensor]:
    received = []
    for product in needs.products:
        size = int(np.prod(product.weight_shape))
        raw = channel.receive(Kind.WEIGHTS, at_most=8 * size)
        if len(raw) != 8 * size:
            raise ProtocolError(f"masked weights of {len(raw)} bytes; expected {8 * size}")
        masked = tensor(np.frombuffer(raw, np.uint64)).reshape(product.weight_shape)
        received.append(ring.place(masked, device))
    return received
