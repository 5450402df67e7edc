"""Flower's waiting times, shortened where a federated round is spent in them.

Flower moves a message as a hundred objects, and who asks for one that is still on its way waits
1, 2, 4, ... up to 10 seconds before asking again. A model of 122 arrays that is asked for too
early then takes minutes. Nothing here changes what is moved, or whether.
"""

import inspect
import time
from types import ModuleType
from typing import Any

from flwr.supercore.inflatable import inflatable_utils

# Seconds: between two looks at an object that is not there yet, at first and at most.
FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
# Seconds: between two looks for a message while messages come; without one until that ends;
# Flower's pause between two looks at whether the app has answered, by which one is noticed.
_LIVELY_PAUSE, LIVELY_FOR, _REPLY_PAUSE = 0.25, 120.0, 0.5


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


class _LivelyClock:
    """The module `time` with another `sleep`, for a process that looks for messages."""

    def __init__(self) -> None:
        self._last_message = -LIVELY_FOR

    def sleep(self, seconds: float) -> None:
        """Sleep as long as asked, or less while messages come."""
        now = time.monotonic()
        if seconds <= _REPLY_PAUSE:  # waiting for the app's answer to a message
            self._last_message = now
        lively = now - self._last_message < LIVELY_FOR
        time.sleep(min(seconds, _LIVELY_PAUSE) if lively else seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def hasten_messages(module: ModuleType) -> bool:
    """Let a module of Flower that sleeps with `time.sleep` look for messages more often."""
    if not inspect.ismodule(module) or getattr(module, "time", None) is not time:
        return False
    module.time = _LivelyClock()  # type: ignore[attr-defined]
    return True
