"""The keys of a configuration: what each may hold, and the nearest to one that is none."""

import difflib
import types
import typing
from collections.abc import Hashable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, cast

_MOST_NAMED = 3
_WORDS: dict[object, str] = {
    int: "a whole number, e.g. 3",
    float: "a number, e.g. 0.5",
    bool: "true or false",
    str: "text",
    list: "a list in square brackets, e.g. [a,b]",
    dict: "names with values, e.g. {a: b}",
}


def kinds_of(schema: Any) -> dict[str, Any]:
    """Return the types of all keys of a dataclass by their dotted names; of sections, too."""
    return _known(schema)


def kind_of(schema: type[Any], key: str) -> Any:
    """Return the type of a key, `Any` below a key that takes any names, None for no key."""
    kinds = kinds_of(schema)
    if key in kinds:
        return kinds[key]
    above, _, name = key.rpartition(".")
    kind = plain(kind_of(schema, above)) if above else None
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict or kind in (Any, dict):
        return inside[1] if inside else Any
    if origin is list and name.isdigit():
        return inside[0]
    return kinds_of(kind).get(name) if is_dataclass(kind) else None


def plain(kind: Any) -> Any:
    """Return a type without the None that it also allows."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        (kind, *_) = (one for one in typing.get_args(kind) if one is not type(None))
    return kind


def expected(kind: Any) -> str:
    """Say in words what a key of this type takes."""
    kind = plain(kind)
    if is_dataclass(kind):
        names = ", ".join(part.name for part in fields(kind))
        return f"its keys one by one: {names}"
    return _WORDS.get(typing.get_origin(kind) or kind, "another value")


def unknown(key: str, schema: type[Any]) -> str:
    """Return the sentence for a key that is none, with the nearest one or those beside it."""
    if near := _nearest(key, schema):
        return f"unknown key {key} (did you mean {' or '.join(near)}?)"
    inside = key.rpartition(".")[0]
    while inside and not is_dataclass(kind_of(schema, inside)):
        inside = inside.rpartition(".")[0]
    section = kind_of(schema, inside) if inside else schema
    names = ", ".join(f"{inside}.{f.name}" if inside else f.name for f in fields(section))
    return f"unknown key {key}; expected one of {names}"


@cache
def _known(schema: Hashable) -> dict[str, Any]:
    return dict(_kinds(cast(type[Any], schema), ""))


def _kinds(schema: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(schema)
    for part in fields(schema):
        kind = hints[part.name]
        yield f"{prefix}{part.name}", kind
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _kinds(kind, f"{prefix}{part.name}.")


def _nearest(key: str, schema: type[Any]) -> list[str]:
    """Return keys of the same last name, else those that look most alike."""
    known = list(kinds_of(schema))
    parents = [name for name in known if key.startswith(f"{name}.")]
    if parents and not is_dataclass(plain(kind_of(schema, parents[-1]))):
        return parents[-1:]
    own = key.rpartition(".")[2].casefold()
    same = [name for name in known if name.rpartition(".")[2] == own]
    if len(same) > _MOST_NAMED:
        same = difflib.get_close_matches(key, same, n=1, cutoff=0.5)
    if same:
        return same
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.75):
        return near
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    return [last[name] for name in difflib.get_close_matches(own, last, n=1, cutoff=0.75)]
