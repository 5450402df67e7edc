"""Lines of JSON, each with its number, the hash of the line before, and its own hash.

A line that was changed, removed or inserted later does not follow from the one before. That the
newest lines were cut off only those can tell who know a later hash.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_origin, get_type_hints

GENESIS = "0" * 64
"""What stands for the hash before the first line."""


class _Chained(Protocol):
    """A dataclass with the number of the line as its first field and `hash` as its last."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def previous(self) -> str:
        """The hash of the line before."""

    @property
    def hash(self) -> str:
        """The SHA-256 of all else."""


_E = TypeVar("_E", bound=_Chained)


class Chain(Generic[_E]):
    """How the entries of one kind of file are hashed and written.

    Parameters
    ----------
    kind : type
        Of an entry.
    separators : tuple of str
        Of its JSON.
    allow_nan : bool
        Whether numbers may be NaN or infinite.
    """

    def __init__(
        self, kind: type[_E], *, separators: tuple[str, str] = (",", ":"), allow_nan: bool = False
    ) -> None:
        self._make: Callable[..., _E] = kind
        self._json = json.JSONEncoder(
            sort_keys=True, separators=separators, allow_nan=allow_nan
        ).encode
        hints = get_type_hints(kind)
        self._types = {f.name: get_origin(hints[f.name]) or hints[f.name] for f in fields(kind)}

    def entry(self, *values: Any) -> _E:
        """Return an entry: its values in order, then the SHA-256 of their JSON."""
        digest = hashlib.sha256(self._json(values).encode("ascii")).hexdigest()
        return self._make(*values, digest)

    def line(self, entry: _E) -> bytes:
        """Return the one way to write an entry."""
        return self._json(vars(entry)).encode("ascii") + b"\n"

    def read(self, line: bytes) -> _E:
        """Read a line that `line` wrote.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        try:
            entry = self._make(**json.loads(line))
            *values, _ = (getattr(entry, name) for name in self._types)
            typed = all(type(getattr(entry, n)) is kind for n, kind in self._types.items())
            if not typed or self.line(self.entry(*values)) != line:
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise ValueError("was changed") from None
        return entry

    def follow(self, lines: Iterable[bytes]) -> Iterator[_E]:
        """Read lines from the first one on, each of which follows from the one before.

        Raises
        ------
        ValueError
            At the first that was changed, or does not follow.
        """
        previous = GENESIS
        for number, line in enumerate(lines, start=1):
            entry = self.read(line)
            if (getattr(entry, next(iter(self._types))), entry.previous) != (number, previous):
                raise ValueError("does not follow from the line before")
            yield entry
            previous = entry.hash
