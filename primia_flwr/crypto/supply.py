"""A party's line to the crypto provider: blocks fetched ahead of the images, on a thread."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from primia_flwr.crypto import ring
from primia_flwr.crypto.channel import Channel
from primia_flwr.crypto.dealing import part_bytes, stored_bytes, tensor, words
from primia_flwr.crypto.messages import Join, Kind, pack
from primia_flwr.crypto.needs import Needs
from primia_flwr.crypto.prepared import Prepared, masked_products, prepare
from primia_flwr.crypto.randomness import SEED_BYTES
from primia_flwr.crypto.store import Store
from primia_flwr.errors import PrimiaError, ServiceError

OnFetched = Callable[[int], None]
_PATIENCE_AT_THE_END = 5.0  # seconds for the thread to notice that its line is closed


def join(channel: Channel, request: Join, needs: Needs) -> bytes:
    """Come to the crypto provider for a session; return the weights' seed, for the model owner.

    Raises
    ------
    ServiceError
        If the peer does not come, or asks for something else.
    """
    channel.send(Kind.JOIN, pack(request))
    channel.send(Kind.JOIN, needs.to_bytes())
    return bytes(channel.receive(Kind.JOINED, at_most=SEED_BYTES))


class Supply:
    """Fetches the blocks of a session in order and keeps some of them waiting.

    Parameters
    ----------
    party : int
        Whose.
    channel : Channel
        To the crypto provider, after `join`; the supply's own from now on.
    needs : Needs
        Of the plan.
    store : Store
        Where blocks wait.
    total : int
        Blocks of the session.
    ahead : int
        The most that wait, at least 1.
    masked_weights : sequence of Tensor
        The data owner's F, by product.
    on_fetched : callable
        Told how many blocks have come.
    """

    def __init__(
        self,
        party: int,
        channel: Channel,
        needs: Needs,
        store: Store,
        *,
        total: int,
        ahead: int,
        masked_weights: Sequence[Tensor] = (),
        on_fetched: OnFetched = lambda _: None,
    ) -> None:
        self._party, self._channel, self._needs = party, channel, needs
        self._store, self._total, self._ahead = store, total, max(ahead, 1)
        self._masked_weights = masked_weights
        self._on_fetched = on_fetched
        self._lengths = part_bytes(party, needs)
        self._changed = threading.Condition()
        self._fetched = 0
        self._error: PrimiaError | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name="supply", daemon=True)
        self._thread.start()

    @property
    def bytes_received(self) -> int:
        """What has come from the crypto provider."""
        return self._channel.counts.bytes_received

    def wait_for(self, count: int, timeout: float) -> None:
        """Wait until so many blocks have been fetched in all.

        Raises
        ------
        PrimiaError
            What went wrong with the crypto provider or the store.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._fetched >= count or self._error, timeout)
            if self._error is not None and self._fetched < count:
                raise self._error
        if not done:
            raise ServiceError(
                f"no block of randomness came within {timeout:g} s; expected one; is the other "
                "party still fetching, and does its store have room?"
            )

    def take(self, number: int, timeout: float) -> Prepared:
        """Return a block made ready; it and all before it are gone from the store.

        Raises
        ------
        PrimiaError
            If it was used before, or cannot be had.
        """
        self.wait_for(number + 1, timeout)
        with self._changed:
            parts = self._store.take(number)
            self._changed.notify_all()
        dealt, products = parts[: len(self._lengths)], parts[len(self._lengths) :]
        shares = [
            tensor(np.frombuffer(raw, np.uint64).copy()).reshape(product.shape)
            for raw, product in zip(products, self._needs.products, strict=False)
        ]
        return prepare(self._party, self._needs, dealt, shares)

    def close(self) -> None:
        """Fetch no more, and leave the crypto provider."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._channel.close()
        self._thread.join(_PATIENCE_AT_THE_END)

    def _run(self) -> None:
        try:
            for number in range(self._total):
                if not self._wait_for_room():
                    return
                parts = self._fetch(number)
                with self._changed:
                    self._store.put(number, parts)
                    self._fetched = number + 1
                    self._changed.notify_all()
                self._on_fetched(number + 1)
            self._channel.send(Kind.GOODBYE)
        except PrimiaError as error:
            self._fail(error)
        except Exception as error:  # the channel was closed under this thread, or a fault
            self._fail(ServiceError(f"fetching randomness broke off ({error})"))

    def _fail(self, error: PrimiaError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        size = stored_bytes(self._party, self._needs)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._over
                    or (len(self._store.numbers) < self._ahead and self._store.has_room(size))
                )
            )
            return not self._over

    def _fetch(self, number: int) -> list[bytes]:
        self._channel.send(Kind.WANT, number.to_bytes(8, "big"))
        parts = [bytes(self._channel.receive(Kind.PART, at_most=n)) for n in self._lengths]
        if self._party == ring.DATA_OWNER:
            products = masked_products(self._needs, parts[0], self._masked_weights)
            parts += [words(share).tobytes() for share in products]
        return parts
