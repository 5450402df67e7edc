"""Which files of the product are entered, in the order of their first call, and how often."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
_PARTS = tuple(str(ROOT / part) + "/" for part in ("primia_flwr", "clients", "strategies"))


class Walk(list[str]):
    """The files that are entered, threads included, in the order of their first call.

    `crossings`: what the thread that began does, in order: ("in", file) where it enters a file that
    it is not in already, ("out", file) where it has left it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.crossings: list[tuple[str, str]] = []
        self._seen: set[str] = set()
        self._depths: Counter[str] = Counter()
        self._thread = threading.get_ident()

    def take(self, frame: FrameType, event: str, _: Any) -> None:
        """Take in a call, or the end of one."""
        name = frame.f_code.co_filename
        if event in ("call", "return") and frame.f_code.co_name != "<module>":
            if event == "call" and name not in self._seen:
                self._seen.add(name)
                if name.startswith(_PARTS):
                    self.append(_short(name))
            if threading.get_ident() == self._thread and name.startswith(_PARTS):
                self._cross(name, 1 if event == "call" else -1)

    def _cross(self, name: str, step: int) -> None:
        before, after = self._depths[name], self._depths[name] + step
        if after >= 0:  # what was entered before the walk began is no part of it
            self._depths[name] = after
            if not before or not after:
                self.crossings.append(("in" if after else "out", _short(name)))


def _short(name: str) -> str:
    return str(Path(name).relative_to(ROOT))


@contextmanager
def traced() -> Iterator[Walk]:
    """Trace while the block runs."""
    found = Walk()
    before: tuple[Callable[..., Any] | None, ...] = (sys.getprofile(), threading.getprofile())
    sys.setprofile(found.take)
    threading.setprofile(found.take)
    try:
        yield found
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])  # type: ignore[arg-type]
