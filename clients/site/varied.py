"""How `open_site` gives a site while one message is answered, e.g. with a search's configuration."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Vary = Callable[[Any], Any]
_VARY: ContextVar[Vary] = ContextVar("vary", default=lambda site: site)


@contextmanager
def varied(vary: Vary) -> Iterator[None]:
    """Have the site opened as `vary` makes it."""
    token = _VARY.set(vary)
    try:
        yield
    finally:
        _VARY.reset(token)


def as_varied(site: Any) -> Any:
    """Return a site as the message's mods have it."""
    return _VARY.get()(site)
