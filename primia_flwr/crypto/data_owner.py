"""The data owner's side of a session: it asks for a model's opinion on its own images."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from primia_flwr.crypto import ring
from primia_flwr.crypto.channel import Channel
from primia_flwr.crypto.dealing import tensor
from primia_flwr.crypto.lowering import lower
from primia_flwr.crypto.messages import (
    MAX_JSON_BYTES,
    NONCE_BYTES,
    VERSION,
    Hello,
    Join,
    Kind,
    Offer,
    pack,
    session_of,
    unpack,
)
from primia_flwr.crypto.needs import Needs
from primia_flwr.crypto.online import DataOwner
from primia_flwr.crypto.plan import Plan
from primia_flwr.crypto.session import MAX_CLASSES, MAX_IMAGE_SIZE, Online, Settings
from primia_flwr.crypto.store import Store
from primia_flwr.crypto.supply import Supply, join
from primia_flwr.errors import CheckpointError, ProtocolError
from primia_flwr.models.registry import build_model
from primia_flwr.models.saved import ModelCard


@dataclass(frozen=True)
class Answer:
    """Scores (N, classes), float64, and what they took.

    `seconds` from the masked image to the scores; bytes on the line to the model owner.
    """

    scores: Tensor
    seconds: float
    bytes_sent: int
    bytes_received: int


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
        self._next = 0
        self._abandoned = False
        self.batches = batches
        started = time.monotonic()
        hello = Hello(VERSION, "fss", batch, batches, secrets.token_hex(NONCE_BYTES))
        channel.send(Kind.HELLO, pack(hello))
        self.offer = unpack(channel.receive(Kind.OFFER, at_most=MAX_JSON_BYTES), Offer)
        self.card = read_card(self.offer)
        self.plan = plan_of(self.card, self.offer, batch)
        needs = Needs.of(self.plan)
        session = session_of(hello, self.offer, own_fingerprint, channel.peer.fingerprint)
        provider = to_provider()
        try:
            join(provider, Join(session.hex(), channel.peer.fingerprint), needs)
            masked_weights = _receive_masked_weights(channel, needs)
        except BaseException:
            provider.close()
            raise
        store = Store(settings.store, session, limit_bytes=settings.store_bytes)
        self._supply = Supply(
            ring.DATA_OWNER,
            provider,
            needs,
            store,
            total=batches,
            ahead=settings.prefetch,
            masked_weights=masked_weights,
            on_fetched=on_fetched,
        )
        self.set_up_seconds = time.monotonic() - started
        self.set_up_bytes = channel.counts.bytes_received

    def fetch_ahead(self) -> None:
        """Wait until as many blocks wait as may."""
        count = min(self._settings.prefetch, self.batches)
        self._supply.wait_for(count, self._settings.patience)

    @property
    def bytes_dealt(self) -> int:
        """What has come from the crypto provider so far."""
        return self._supply.bytes_received

    def classify(self, images: Tensor) -> Answer:
        """Have a batch of normalised images (N, C, H, W), float, classified.

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
        self._supply.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and not self._abandoned:
            self._channel.send(Kind.GOODBYE)
        self.close()


def read_card(offer: Offer) -> ModelCard:
    """Return the offered model's card.

    Raises
    ------
    ProtocolError
        If it is none, or out of range.
    """
    try:
        card = ModelCard.from_dict(offer.card)
        in_range = (
            type(card.image_size) is int
            and 16 <= card.image_size <= MAX_IMAGE_SIZE
            and type(card.channels) is int
            and 2 <= len(card.classes) <= MAX_CLASSES
            and all(type(name) is str for name in card.classes)
            and len(card.mean) == len(card.std) == card.channels
            and all(type(value) is float for value in (*card.mean, *card.std))
            and min(card.std) > 0
        )
    except (CheckpointError, TypeError, ValueError) as error:
        raise ProtocolError(f"the model owner offers a model card with {error}") from None
    if not in_range:
        raise ProtocolError("the model owner offers a model card with a value out of range")
    return card


def plan_of(card: ModelCard, offer: Offer, batch: int) -> Plan:
    """Return the plan of the offered architecture, lowered here.

    Raises
    ------
    ProtocolError
        If the model owner's is another one.
    """
    model = build_model(
        card.model,
        num_classes=len(card.classes),
        channels=card.channels,
        seed=0,
        first_weights=False,
    )
    shape = (batch, card.channels, card.image_size, card.image_size)
    plan = lower(model, shape, compare_bits=offer.compare_bits).plan
    if plan.digest != offer.plan:
        raise ProtocolError(
            f"the model owner computes {card.model.name} by another plan; do both parties run the "
            "same version of primia_flwr?"
        )
    return plan


def _receive_masked_weights(channel: Channel, needs: Needs) -> list[Tensor]:
    received = []
    for product in needs.products:
        size = int(np.prod(product.weight_shape))
        raw = channel.receive(Kind.WEIGHTS, at_most=8 * size)
        if len(raw) != 8 * size:
            raise ProtocolError(f"masked weights of {len(raw)} bytes; expected {8 * size}")
        received.append(tensor(np.frombuffer(raw, np.uint64)).reshape(product.weight_shape))
    return received
