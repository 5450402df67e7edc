"""Flower's waiting times, shortened where a federated round is spent in them.

Flower moves a message as a hundred objects, and who asks for one that is still on its way waits
1, 2, 4, ... up to 10 seconds before asking again. A model of 122 arrays that is asked for too
early then takes minutes. Nothing here changes what is moved, or whether.
"""

import inspect
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.supercore.inflatable import inflatable_utils

# Seconds: between two looks at an object that is not there yet, at first and at most.
FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
# Seconds: between two looks for a message while messages come; without one until that ends;
# Flower's pause between two looks at whether the app has answered, by which one is noticed.
_LIVELY_PAUSE, LIVELY_FOR, _REPLY_PAUSE = 0.25, 120.0, 0.5
# Seconds between two looks for the app's answer, at first; a twentieth of the time waited, later.
_FIRST_LOOK, _PART_OF_THE_WAIT = 0.03, 20
_LISTENS_EVERY = 0.02  # seconds between two looks whether a bell was rung


def hasten_transfers(module: ModuleType = inflatable_utils) -> bool:
    """Ask often for objects that are on their way; return whether this Flower can be told so."""
    pull = getattr(module, "pull_objects", None)
    known = getattr(pull, "__kwdefaults__", None) or {}
    if not {"initial_backoff", "backoff_cap", "max_tries_per_object"} <= known.keys():
        return False
    patience = known["max_time"] if isinstance(known.get("max_time"), int | float) else 7200
    known["initial_backoff"], known["backoff_cap"] = FIRST_PAUSE, _LONGEST_PAUSE
    known["max_tries_per_object"] = int(patience / FIRST_PAUSE)
    return True


class _Clock:
    """The module `time` with another `sleep`."""

    def sleep(self, seconds: float) -> None:
        """Sleep as long as asked."""
        time.sleep(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class _LivelyClock(_Clock):
    """The clock of a process that looks for messages."""

    def __init__(self) -> None:
        self._began = self._last_message = -LIVELY_FOR

    def sleep(self, seconds: float) -> None:
        """Sleep as long as asked, or less while messages come."""
        now = time.monotonic()
        if seconds <= _REPLY_PAUSE:  # waiting for the app's answer to a message
            if now - self._last_message > _REPLY_PAUSE:
                self._began = now
            self._last_message = now
            seconds = min(max((now - self._began) / _PART_OF_THE_WAIT, _FIRST_LOOK), _LIVELY_PAUSE)
        lively = now - self._last_message < LIVELY_FOR
        time.sleep(min(seconds, _LIVELY_PAUSE) if lively else seconds)


class _BellClock(_Clock):
    """The clock of a process that waits for another one to touch a file."""

    def __init__(self, bell: Path) -> None:
        self._bell, self._rung = bell, _rung_at(bell)

    def sleep(self, seconds: float) -> None:
        """Sleep until the bell is rung, at most as long as asked."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            rung = _rung_at(self._bell)
            if rung != self._rung:
                self._rung = rung
                return
            time.sleep(min(left, _LISTENS_EVERY))


def _rung_at(bell: Path) -> int:
    try:
        return bell.stat().st_mtime_ns
    except OSError:
        return 0


def hasten_messages(module: ModuleType) -> bool:
    """Let a module of Flower that sleeps with `time.sleep` look for messages more often."""
    if not inspect.ismodule(module) or getattr(module, "time", None) is not time:
        return False
    module.time = _LivelyClock()  # type: ignore[attr-defined]
    return True


def listen(module: ModuleType, bell: Path) -> bool:
    """Let a module of Flower that sleeps with `time.sleep` wake when a file is touched."""
    if not inspect.ismodule(module) or getattr(module, "time", None) is not time:
        return False
    module.time = _BellClock(bell)  # type: ignore[attr-defined]
    return True


def ring_after(module: ModuleType, name: str, bell: Path) -> bool:
    """Touch a file whenever a function of a module has returned something; who listens wakes.

    Where the file cannot be touched the other process finds out in its own time.
    """
    function = getattr(module, name, None)
    if not callable(function):
        return False

    def ringing(*arguments: Any, **named: Any) -> Any:
        found = function(*arguments, **named)
        if found is not None:
            with suppress(OSError):
                bell.touch(mode=0o600)
        return found

    setattr(module, name, ringing)
    return True
