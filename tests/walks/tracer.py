"""Which files of the product are entered, in the order of their first call."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
_PARTS = tuple(str(ROOT / part) + "/" for part in ("primia_flwr", "clients", "strategies"))


@contextmanager
def traced() -> Iterator[list[str]]:
    """Collect, while the block runs, each file whose function is called, once; threads as well."""
    found: list[str] = []
    seen: set[str] = set()

    def on_call(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name not in seen and frame.f_code.co_name != "<module>":
            seen.add(name)
            if name.startswith(_PARTS):
                found.append(str(Path(name).relative_to(ROOT)))

    before: tuple[Callable[..., Any] | None, ...] = (sys.getprofile(), threading.getprofile())
    sys.setprofile(on_call)
    threading.setprofile(on_call)
    try:
        yield found
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])  # type: ignore[arg-type]
