"""The model owner's side of a session: it offers a model and takes part in batch after batch."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from primia_flwr.config.inference import check_audit
from primia_flwr.errors import PolicyRefusal, PrimiaError, ProtocolError, ServiceError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.overflow.limits import check_plan, check_products
from primia_flwr.inference.preprocessing.dealing import stored_bytes, weight_masks, words
from primia_flwr.inference.preprocessing.prefetch import Prefetch, join
from primia_flwr.inference.preprocessing.store import Store
from primia_flwr.inference.protocol.memory import SessionMemory
from primia_flwr.inference.protocol.online import ModelOwner
from primia_flwr.inference.protocol.session import PROTOCOL, Online, Settings, blocks_ahead
from primia_flwr.inference.service import crypten_batches as stock
from primia_flwr.inference.service.query_log import QueryLog
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.keepalive import FIRST_WORD_SECONDS, LOOK_SECONDS, Answering
from primia_flwr.inference.transport.messages import (
    MAX_JSON_BYTES,
    NONCE_BYTES,
    OPEN_ENDED,
    Hello,
    Join,
    Kind,
    Offer,
    pack,
    session_of,
    unpack,
)
from primia_flwr.models.card import ModelCard

logger = logging.getLogger(__name__)

_OnBatch = Callable[[str, int], None]


@dataclass
class ServedModel:
    """A model that is offered, and its lowered forms by batch size.

    `digest`: SHA-256 of the saved weights. `calibrated`: images on which it was measured;
    `score_limit`: of a calibrated one, see `plausibility`, else 0. `device`: where the weights lie
    and the linear layers are computed.
    """

    model: nn.Module
    card: ModelCard
    digest: str
    compare_bits: int
    calibrated: int = 0
    score_limit: float = 0.0
    device: torch.device = ring.CPU
    lowered: Callable[[int], Lowered] = field(init=False)
    _first: Lowered | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.lowered = lru_cache(maxsize=4)(self._lower)

    def image_shape(self, batch: int) -> tuple[int, ...]:
        """Return (N, C, H, W) of so many images."""
        size = self.card.image_size
        return batch, self.card.channels, size, size

    def _lower(self, batch: int) -> Lowered:
        shape = self.image_shape(batch)
        lowered = lower(self.model, shape, compare_bits=self.compare_bits)
        if self._first is not None:  # the weights are the same for every batch, and there once
            return replace(lowered, weights=self._first.weights, graph=self._first.graph)
        placed = (replace(w, weight=ring.place(w.weight, self.device)) for w in lowered.weights)
        self._first = replace(lowered, weights=tuple(placed))
        return self._first

    def memory(self, *, audit: bool) -> SessionMemory:
        """Return what a session with this model takes of the model owner's memory."""
        plan = replace(self.lowered(1).plan, audit=audit)
        return SessionMemory.of(ring.MODEL_OWNER, plan)


class Server:
    """Serves data owners, each in a session of its own.

    Parameters
    ----------
    served : ServedModel
        What is offered.
    to_provider : callable
        Opens a channel to the crypto provider.
    queries : QueryLog
        Who asked for how much, and how much each may.
    own_fingerprint : str
        Of this party's certificate.
    settings : Settings
        This party's choices.
    max_batch : int
        Images that a data owner may have classified at once.
    max_watching : int
        Open-ended sessions at the same time.
    on_batch : callable
        Told the data owner's name and how many batches it has had.

    Raises
    ------
    ConfigError
        If audits are allowed, and a product of this model could escape them.
    """

    def __init__(
        self,
        served: ServedModel,
        to_provider: Callable[[], Channel],
        queries: QueryLog,
        *,
        own_fingerprint: str,
        settings: Settings,
        max_batch: int = 16,
        max_watching: int = 16,
        on_batch: _OnBatch = lambda *_: None,
    ) -> None:
        self._served, self._to_provider, self._queries = served, to_provider, queries
        self._fingerprint, self._settings = own_fingerprint, settings
        self._max_batch, self._max_watching = max_batch, max_watching
        self._watching = threading.Semaphore(max_watching)
        self._on_batch = on_batch
        if settings.audit:
            check_audit(True, PROTOCOL, served.compare_bits)
            lowered = served.lowered(1)
            check_plan(lowered.plan)
            check_products(lowered.weights, served.compare_bits)

    def serve(self, channel: Channel) -> None:
        """Serve one data owner until it says goodbye; whatever goes wrong is told to it."""
        try:
            hello = self._hello(channel)
            # Of an open-ended session each batch is checked when it comes.
            self._queries.check(channel.peer.name, hello.batch * hello.batches)
            with self._place(channel.peer.name, hello):
                self._session(channel, hello)
        except PrimiaError as error:
            logger.warning("%s: %s", channel.peer, error)
            channel.fail(str(error))
        finally:
            channel.close()

    @contextmanager
    def _place(self, name: str, hello: Hello) -> Iterator[None]:
        """Take one of the places for data owners that watch; a call takes none of them."""
        watches = hello.batches == OPEN_ENDED
        if watches and not self._watching.acquire(blocking=False):
            raise PolicyRefusal(
                f"all {self._max_watching} places for data owners that watch are taken; call "
                "without watch=true, try again later, or ask the model owner"
            )
        if watches:
            logger.info("%s watches", name)
        try:
            yield
        finally:
            if watches:
                self._watching.release()

    def _hello(self, channel: Channel) -> Hello:
        """Receive what a data owner wishes; refuse what this server does not do."""
        with channel.within(FIRST_WORD_SECONDS):
            hello = unpack(channel.receive(Kind.HELLO, at_most=MAX_JSON_BYTES), Hello)
        if hello.protocol != self._settings.protocol:
            raise ProtocolError(
                f"protocol={hello.protocol}; this server offers {self._settings.protocol}"
            )
        if hello.batch > self._max_batch:
            raise PolicyRefusal(
                f"batch={hello.batch}; this server takes at most {self._max_batch} images at "
                "once; ask with a smaller batch"
            )
        if hello.audit and not self._settings.audit:
            raise PolicyRefusal(
                "audit=true; this server takes part in no audit; expected audit=false, unless "
                "the model owner allows it: primia serve model-owner audit=true"
            )
        return hello

    def _offer(self, lowered: Lowered, spec: CorrelationSpec) -> Offer:
        return Offer(
            card=public_card(self._served.card),
            compare_bits=self._served.compare_bits,
            plan=lowered.plan.digest,
            model=self._served.digest,
            nonce=secrets.token_hex(NONCE_BYTES),
            ahead=blocks_ahead(self._settings, stored_bytes(ring.MODEL_OWNER, spec)),
            calibrated=self._served.calibrated,
            score_limit=self._served.score_limit,
        )

    def _session(self, channel: Channel, hello: Hello) -> None:
        lowered = self._served.lowered(hello.batch)
        lowered = replace(lowered, plan=replace(lowered.plan, audit=hello.audit))
        spec = CorrelationSpec.of(lowered.plan)
        offer = self._offer(lowered, spec)
        channel.send(Kind.OFFER, pack(offer))
        peer = channel.peer.fingerprint
        session = session_of(hello, offer, peer, self._fingerprint)
        settings = self._settings
        with ExitStack() as stack:
            provider = stack.enter_context(self._to_provider())
            if hello.protocol == stock.PROTOCOL:
                self._queries.add(channel.peer.name, hello.batch)
                shape = self._served.image_shape(hello.batch)
                stock.answer(channel, provider, session, self._served.model, shape)
                return
            request = Join(session.hex(), peer, PROTOCOL)
            seed = join(provider, request, spec, peer=channel.look)
            _send_masked_weights(channel, lowered, spec, seed)
            store = Store(settings.store, session, limit_bytes=settings.store_bytes)
            stack.callback(store.close)
            supply = Prefetch(
                ring.MODEL_OWNER,
                provider,
                spec,
                store,
                total=hello.most_batches,
                ahead=offer.ahead,
                in_a_row=hello.batches != OPEN_ENDED,
            )
            stack.callback(supply.close)
            self._batches(channel, hello, lowered, supply)

    def _batches(self, channel: Channel, hello: Hello, lowered: Lowered, supply: Prefetch) -> None:
        done, settings = 0, self._settings
        idle = settings.idle if hello.batches == OPEN_ENDED else settings.patience
        while (number := _begun(channel, supply, idle)) is not None:
            if number >= hello.most_batches:
                raise ProtocolError(f"batch {number} of {hello.most_batches}; expected one of them")
            if not self._allows(channel, hello):
                continue
            self._answer(channel, lowered, supply, number)
            done += 1
            self._on_batch(channel.peer.name, done)

    def _answer(self, channel: Channel, lowered: Lowered, supply: Prefetch, number: int) -> None:
        settings = self._settings
        with supply.block(number, settings.patience) as prepared:
            channel.send(Kind.BEGIN)
            party = ModelOwner(
                lowered.plan, prepared, Online(channel), lowered.weights, threads=settings.threads
            )
            del prepared
            with torch.inference_mode():
                party.answer()
            del party  # before the next block is opened: one of them is in memory at a time

    def _allows(self, channel: Channel, hello: Hello) -> bool:
        """Count a batch; False where the limit is reached and an open-ended session goes on."""
        try:
            self._queries.add(channel.peer.name, hello.batch)
        except PolicyRefusal as refusal:
            if hello.batches != OPEN_ENDED:
                raise
            channel.send(Kind.REFUSED, str(refusal).encode())
            return False
        return True


def public_card(card: ModelCard) -> dict[str, Any]:
    """Return what a data owner may know of a model.

    Not where its first weights came from, nor whose own layers are in it, nor what was measured on
    validation images: how large the numbers got, which scores they had.
    """
    model = replace(card.model, weights="none", trainable="all", shared="all")
    told = replace(card, model=model, config_hash="", site="", origin=None)
    return replace(told, activation_bounds=None, set_scores=()).to_dict()


def _send_masked_weights(
    channel: Channel, lowered: Lowered, spec: CorrelationSpec, seed: bytes
) -> None:
    """Send F = W - B of each layer: uniform to whoever does not know B."""
    masks = weight_masks(spec, seed)
    for weights, mask in zip(lowered.weights, masks, strict=True):
        masked = words(weights.weight.cpu() - mask)
        channel.send(Kind.WEIGHTS, masked.reshape(-1).view(np.uint8).data)


def _begun(channel: Channel, supply: Prefetch, idle: float) -> int | None:
    """Wait for the next batch; return its block, or None when the data owner has had enough."""
    peer, end, fetched = Answering(channel), time.monotonic() + idle, supply.fetched
    while (heard := peer.poll({Kind.BEGIN: 8, Kind.GOODBYE: 0}, LOOK_SECONDS)) is None:
        if supply.fetched > fetched:
            end, fetched = time.monotonic() + idle, supply.fetched
        if time.monotonic() > end:
            raise ServiceError(
                f"{channel.peer} has asked for nothing for {idle:g} s; the session ends"
            )
    kind, body = heard
    return None if kind == Kind.GOODBYE else int.from_bytes(body, "big")
