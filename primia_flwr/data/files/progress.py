"""Who is told how far the decoding of images is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TOLD: ContextVar[Callable[[int, int], None] | None] = ContextVar("_TOLD", default=None)


@contextmanager
def telling(told: Callable[[int, int], None]) -> Iterator[None]:
    """Call `told(done, total)` after each image that is decoded in this context."""
    token = _TOLD.set(told)
    try:
        yield
    finally:
        _TOLD.reset(token)


def decoded(done: int, total: int) -> None:
    """Say that so many images of so many are decoded."""
    if told := _TOLD.get():
        told(done, total)
