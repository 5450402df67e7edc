"""Ctrl-C, SIGTERM and a closed terminal, for a command that is meant to be stopped."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from primia_flwr.processes.stop_signals import stop_signals


class Stopping:
    """Turns the first signal to stop into a `KeyboardInterrupt` where that does no harm.

    A context manager; signals come to the main thread only, so in another one it does nothing.
    Within `breaks()` the interrupt comes at once; else when the next `breaks()` begins, so that
    what is in hand is done first. A second one comes at once everywhere.
    """

    def __init__(self) -> None:
        self._asked = self._may_break = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in stop_signals():
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def breaks(self) -> Iterator[None]:
        """Let the interrupt come while this lasts."""
        self._may_break = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_break = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if again or self._may_break:
            raise KeyboardInterrupt
