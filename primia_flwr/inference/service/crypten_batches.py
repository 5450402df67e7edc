"""`protocol=crypten` as a service: one session for each batch, CrypTen's own protocols.

The yardstick beside `fss`: the same parties, certificates and links. CrypTen keeps global state, so
a process takes part in one such computation at a time; it is imported only here, when asked for.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from primia_flwr.inference.protocol.plausibility import judged
from primia_flwr.inference.protocol.session import ClosedAtTheEnd, Settings
from primia_flwr.inference.service.negotiation import (
    Answer,
    ask_for_offer,
    build_architecture,
    read_card,
)
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.messages import Hello, Join, Kind, Offer, pack, session_of
from primia_flwr.models.card import ModelCard

PROTOCOL = "crypten"


def _come_for_triples(channel: Channel, session: bytes, peer: str) -> None:
    """Come to the crypto provider for one computation."""
    channel.send(Kind.JOIN, pack(Join(session.hex(), peer, PROTOCOL)))
    channel.receive(Kind.JOINED, at_most=0)


def deal(data_owner: Channel, model_owner: Channel) -> None:
    """Serve one computation at the crypto provider."""
    from primia_flwr.inference.crypten.dealer import serve_dealer

    for channel in (data_owner, model_owner):
        channel.send(Kind.JOINED)
    serve_dealer(data_owner, model_owner)


def answer(
    channel: Channel, provider: Channel, session: bytes, model: nn.Module, shape: tuple[int, ...]
) -> None:
    """Take part in one computation at the model owner."""
    from primia_flwr.inference.crypten.program import run_model_owner

    _come_for_triples(provider, session, channel.peer.fingerprint)
    run_model_owner(channel, provider, model, shape)


class StockSession(ClosedAtTheEnd):
    """One session of the data owner; the interface of `data_owner.Session`, for one batch.

    Parameters
    ----------
    channel, to_provider, own_fingerprint, batch, settings
        As `data_owner.Session`.
    """

    batches = 1

    def __init__(
        self,
        channel: Channel,
        to_provider: Callable[[], Channel],
        *,
        own_fingerprint: str,
        batch: int,
        settings: Settings,
    ) -> None:
        started = time.monotonic()
        self._channel = channel
        with ExitStack() as stack:
            stack.enter_context(channel)
            hello, self.offer = ask_for_offer(channel, PROTOCOL, batch, 1)
            self.card: ModelCard = read_card(self.offer)
            self._architecture = build_architecture(self.card)
            self._provider = stack.enter_context(to_provider())
            self._join(hello, self.offer, own_fingerprint)
            self._resources = stack.pop_all()
        self.rounds = 0
        self.set_up_seconds = time.monotonic() - started
        self.set_up_bytes = channel.counts.bytes_received

    def _join(self, hello: Hello, offer: Offer, own: str) -> None:
        peer = self._channel.peer.fingerprint
        _come_for_triples(self._provider, session_of(hello, offer, own, peer), peer)

    def fetch_ahead(self) -> None:
        """Do nothing: triples are dealt while the parties wait."""

    @property
    def bytes_dealt(self) -> int:
        """What has come from the crypto provider: a seed."""
        return self._provider.counts.bytes_received

    def classify(self, images: Tensor) -> Answer:
        """Have a batch of normalised images (N, C, H, W), float, classified.

        Raises
        ------
        PrimiaError
            If a party fails.
        """
        from primia_flwr.inference.crypten.program import run_data_owner

        counts = self._channel.counts
        sent, received, frames = counts.bytes_sent, counts.bytes_received, counts.frames_sent
        started = time.monotonic()
        with torch.no_grad():
            scores = run_data_owner(self._channel, self._provider, self._architecture, images)
        self.rounds = counts.frames_sent - frames
        found = judged(scores.double(), self.offer.score_limit)
        seconds = time.monotonic() - started
        return Answer(found, seconds, counts.bytes_sent - sent, counts.bytes_received - received)
