"""A clock for sites in memory: who waits for one that will not answer has waited already."""

from __future__ import annotations

import time
from typing import Any


class SkippedTime:
    """The module `time`, whose `sleep` puts the clock forward in place of sleeping."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
