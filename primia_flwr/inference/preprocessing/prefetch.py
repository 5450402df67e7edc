"""A party's line to the crypto provider: blocks fetched ahead of images, the next one opened."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from torch import Tensor

from primia_flwr.errors import PrimiaError, ServiceError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.arithmetic.randomness import SEED_BYTES
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.preprocessing.dealing import part_bytes, stored_bytes, tensor, words
from primia_flwr.inference.preprocessing.prefetcher import Prefetcher, none_came
from primia_flwr.inference.preprocessing.prepared import Prepared, masked_products, prepare
from primia_flwr.inference.preprocessing.store import Store
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.keepalive import LOOK_SECONDS, Keepalive
from primia_flwr.inference.transport.messages import Join, Kind, pack

_OnFetched = Callable[[int], None]
_Meanwhile = Callable[[], None]
_TIME_FOR_A_GOODBYE = 0.2  # seconds, if the thread is not in the midst of a block
_PATIENCE_AT_THE_END = 5.0  # seconds for the thread to notice that its line is closed


def join(
    channel: Channel,
    request: Join,
    spec: CorrelationSpec,
    *,
    peer: Callable[[], None] = lambda: None,
) -> bytes:
    """Come to the crypto provider for a session; return the weights' seed, for the model owner.

    `peer` is called while the other party is waited for: it raises if that one has given up.

    Raises
    ------
    ServiceError
        If the other party does not come, or asks for something else.
    """
    channel.send(Kind.JOIN, pack(request))
    channel.send(Kind.JOIN, spec.to_bytes())
    end = time.monotonic() + channel.timeout
    while (heard := channel.poll({Kind.JOINED: SEED_BYTES}, LOOK_SECONDS)) is None:
        peer()
        if time.monotonic() > end:
            raise ServiceError(
                f"{channel.peer} has brought nobody together for {channel.timeout:g} s; expected "
                "the other party of the session"
            )
    return bytes(heard[1])


class Prefetch:
    """Fetches the blocks of a session in order; keeps some of them waiting, and the next one open.

    Parameters
    ----------
    party : int
        Whose.
    channel : Channel
        To the crypto provider, after `join`; the supply's own from now on.
    spec : CorrelationSpec
        Of the plan.
    store : Store
        Where blocks wait.
    total : int
        Blocks of the session.
    ahead : int
        The most that wait, at least 1.
    in_a_row : bool
        Whether batches come one after the other: a call, not a watch.
    masked_weights : sequence of Tensor
        The data owner's F, by product.
    on_fetched : callable
        Told how many blocks have come.
    """

    def __init__(
        self,
        party: int,
        channel: Channel,
        spec: CorrelationSpec,
        store: Store,
        *,
        total: int,
        ahead: int,
        in_a_row: bool = False,
        masked_weights: Sequence[Tensor] = (),
        on_fetched: _OnFetched = lambda _: None,
    ) -> None:
        self._party, self._channel, self._needs = party, channel, spec
        self._store, self._total, self._ahead = store, total, max(ahead, 1)
        self._masked_weights = masked_weights
        self._on_fetched = on_fetched
        self._lengths = part_bytes(party, spec)
        self._changed = threading.Condition()
        self._fetched = 0
        self._error: PrimiaError | None = None
        self._over = False
        self._vigil = Keepalive(channel)
        self._opener = Prefetcher(self._open, total=total, in_a_row=in_a_row)
        self._thread = threading.Thread(target=self._run, name="supply", daemon=True)
        self._thread.start()

    @property
    def bytes_received(self) -> int:
        """What has come from the crypto provider."""
        return self._channel.counts.bytes_received

    @property
    def is_ready(self) -> bool:
        """Whether the next block is open."""
        return self._opener.is_ready

    @property
    def waiting(self) -> int:
        """How many blocks have come and are not used, the open one among them."""
        return self._fetched - self._opener.given

    @property
    def fetched(self) -> int:
        """How many blocks have come in all."""
        return self._fetched

    @property
    def error(self) -> PrimiaError | None:
        """Why no more blocks come; those that wait can still be used."""
        return self._error

    def check(self) -> None:
        """Raise what went wrong, unless there are blocks left to use."""
        error = self._opener.error or (None if self.waiting else self._error)
        if error is not None:
            raise error

    def wait_for(self, count: int, timeout: float, *, meanwhile: _Meanwhile = lambda: None) -> None:
        """Wait until so many blocks have come in all; `meanwhile` is called about once a second.

        Raises
        ------
        PrimiaError
            What went wrong with the crypto provider or the store.
        """
        end = time.monotonic() + timeout
        while not self._came(count, min(LOOK_SECONDS, end - time.monotonic())):
            meanwhile()
            if time.monotonic() >= end:
                raise none_came(timeout)

    def wait_open(self, number: int, timeout: float, *, meanwhile: _Meanwhile) -> None:
        """Wait until block `number`, the next one, is open.

        Raises
        ------
        PrimiaError
            If it was used before, or cannot be had.
        """
        self._opener.wait(number, timeout, meanwhile=meanwhile)

    def block(self, number: int, timeout: float) -> AbstractContextManager[Prepared]:
        """Give block `number`, the next one; it is gone from the store, and used once.

        Raises
        ------
        PrimiaError
            As `wait_open`.
        """
        return self._opener.block(number, timeout)

    def close(self) -> None:
        """Fetch no more, and leave the crypto provider; what waits or is open is burned."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(_TIME_FOR_A_GOODBYE)
        self._channel.close()
        self._opener.close()
        self._thread.join(_PATIENCE_AT_THE_END)
        self._masked_weights = ()  # who keeps a session that is over keeps no weights

    def _came(self, count: int, seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._fetched >= count or self._error or self._over, seconds
            )
            if self._fetched >= count:
                return True
            if self._error is not None or self._over:
                raise self._error or ServiceError("the session is over")
            return False

    def _open(self, number: int) -> Prepared:
        """Wait for a block and make it ready; it and all before it are gone from the store."""
        while not self._came(number + 1, LOOK_SECONDS):
            pass
        parts = self._store.take(number)
        with self._changed:
            self._changed.notify_all()
        dealt, products = parts[: len(self._lengths)], parts[len(self._lengths) :]
        shares = [
            tensor(np.frombuffer(raw, np.uint64).copy()).reshape(product.shape)
            for raw, product in zip(products, self._needs.products, strict=False)
        ]
        return prepare(self._party, self._needs, dealt, shares)

    def _run(self) -> None:
        try:
            for number in range(self._total):
                if not self._wait_for_room():
                    break
                self._store.put(number, self._fetch(number))
                with self._changed:
                    self._fetched = number + 1
                    self._changed.notify_all()
                self._on_fetched(number + 1)
            self._channel.send(Kind.GOODBYE)
            self._end(ServiceError(f"the session has had all of its {self._total} blocks"))
        except PrimiaError as error:
            self._fail(error)
        except Exception as error:  # the channel was closed under this thread, or a fault
            self._fail(ServiceError(f"fetching randomness broke off ({error})"))

    def _fail(self, error: PrimiaError) -> None:
        self._channel.close()  # so that the crypto provider, and through it the peer, knows
        self._end(error)

    def _end(self, error: PrimiaError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        size = stored_bytes(self._party, self._needs)

        def has_room() -> bool:
            return len(self._store.numbers) < self._ahead and self._store.has_room(size)

        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._over or has_room(), LOOK_SECONDS):
                    return not self._over
            self._vigil.look()

    def _fetch(self, number: int) -> Iterator[bytes]:
        """Fetch a block, part after part: never more than one of them is in memory."""
        self._channel.send(Kind.WANT, number.to_bytes(8, "big"))
        seed = bytes(self._vigil.wait_for(Kind.PART, at_most=self._lengths[0]))
        yield seed
        for length in self._lengths[1:]:
            yield bytes(self._channel.receive(Kind.PART, at_most=length))
        if self._party == ring.DATA_OWNER:
            for share in masked_products(self._needs, seed, self._masked_weights):
                self._vigil.look()  # a large batch takes its time
                yield words(share).tobytes()
