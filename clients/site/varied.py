"""How `open_site` gives a site while one message is answered, e.g. as a search has it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

_Site = TypeVar("_Site")
_Vary = Callable[[Any], Any]
_VARY: ContextVar[_Vary] = ContextVar("vary", default=lambda site: site)


@contextmanager
def varied(vary: _Vary) -> Iterator[None]:
    """Have the site opened as `vary` makes it."""
    token = _VARY.set(vary)
    try:
        yield
    finally:
        _VARY.reset(token)


def as_varied(site: _Site) -> _Site:
    """Return a site as the message's mods have it."""
    varied_site: _Site = _VARY.get()(site)
    return varied_site
