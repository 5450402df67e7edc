"""The next block, opened before it is asked for: at most one at a time, on a thread.

Where batches come one after the other it is opened while the one before is in use: what a batch
waits for on the line is enough time for it. Where one waits for an image, the image goes first, and
the next block is opened when its answer is there.

Opening is the step after which a block can be used, and cannot be stored again: the store's mark
has gone up and the file is gone. What is open and never used goes with the session.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from primia_flwr.errors import PrimiaError, ProtocolError, ServiceError
from primia_flwr.inference.preprocessing.prepared import Prepared

_SLICE = 1.0  # seconds between two calls of what is done while one waits
_PATIENCE_AT_THE_END = 5.0  # seconds for the thread to end


class Prefetcher:
    """Opens block after block, each when the one before it is done with.

    Parameters
    ----------
    open_block : callable
        Waits for the block of that number, and opens it; called once for each, in order.
    total : int
        How many there are.
    in_a_row : bool
        Open the next one while one is in use.
    """

    def __init__(
        self, open_block: Callable[[int], Prepared], *, total: int, in_a_row: bool = False
    ) -> None:
        self._open, self._total, self._in_a_row = open_block, total, in_a_row
        self._changed = threading.Condition()
        self._next = 0
        self._ready: Prepared | None = None
        self._busy = False
        self._over = False
        self._error: PrimiaError | None = None
        self._thread = threading.Thread(target=self._run, name="opener", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the next block is open."""
        return self._ready is not None

    @property
    def given(self) -> int:
        """How many blocks have been given out."""
        return self._next

    @property
    def error(self) -> PrimiaError | None:
        """Why no block is opened any more."""
        return self._error

    def wait(
        self, number: int, timeout: float, *, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until block `number` is open; `meanwhile` is called about once a second.

        Raises
        ------
        ProtocolError
            If it is not the next one: each is used once, in order.
        PrimiaError
            If it cannot be had.
        """
        end = time.monotonic() + timeout
        while not self._wait_a_while(number, min(_SLICE, end - time.monotonic())):
            meanwhile()
            if time.monotonic() >= end:
                raise none_came(timeout)

    @contextmanager
    def block(self, number: int, timeout: float) -> Iterator[Prepared]:
        """Give block `number`, to be used once; the next one is opened then, or when this ends.

        Raises
        ------
        PrimiaError
            As `wait`.
        """
        self.wait(number, timeout)
        with self._changed:
            prepared, self._ready = self._ready, None
            self._next, self._busy = number + 1, not self._in_a_row
            self._changed.notify_all()
        if prepared is None:
            raise ProtocolError(f"block {number} is asked for twice at once; expected once")
        try:
            yield prepared
        finally:
            del prepared
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def close(self) -> None:
        """Open no more; what is open is burned."""
        with self._changed:
            self._over, self._ready = True, None
            self._changed.notify_all()
        self._thread.join(_PATIENCE_AT_THE_END)

    def _wait_a_while(self, number: int, seconds: float) -> bool:
        with self._changed:
            if number < self._next:
                raise ProtocolError(
                    f"block {number} was used or burned; expected {self._next}: no randomness "
                    "serves twice"
                )
            if number > self._next:
                raise ProtocolError(f"block {number} is asked for; expected {self._next}, the next")
            self._changed.wait_for(lambda: self._ready is not None or self._error, seconds)
            if self._ready is None and self._error is not None:
                raise self._error
            return self._ready is not None

    def _run(self) -> None:
        try:
            for number in range(self._total):
                with self._changed:
                    self._changed.wait_for(lambda: self._over or self._is_free())
                    if self._over:
                        return
                self._publish(self._open(number))
        except PrimiaError as error:
            self._fail(error)
        except Exception as error:  # a fault; the session ends with it
            self._fail(ServiceError(f"opening randomness broke off ({error})"))

    def _is_free(self) -> bool:
        return self._ready is None and not self._busy

    def _publish(self, prepared: Prepared) -> None:
        with self._changed:
            self._ready = None if self._over else prepared
            self._changed.notify_all()

    def _fail(self, error: PrimiaError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


def none_came(timeout: float) -> ServiceError:
    """Return what is said when a block was waited for too long."""
    return ServiceError(
        f"no block of randomness came within {timeout:g} s; expected one; is the other party still "
        "fetching, and does its store have room?"
    )
