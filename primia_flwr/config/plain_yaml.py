"""The YAML that comes from elsewhere: one mapping of plain values, read in one way.

A hospital's gate and the code behind it read the same text. Nothing in it may mean something else
to one of them, or refer to anything: no anchor, alias, tag or merge key, no `${...}` (which would
read the hospital's environment into a value), no key that is not text or stands twice.

Words and numbers mean what OmegaConf takes them for; libyaml reads them where PyYAML has it, since
a site reads several texts for each message. What is not plain is refused before, event by event, so
that nothing is built of it; numbers and keys are looked at after.
"""

import math
from collections import Counter
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from primia_flwr.errors import ConfigError

MAX_CHARACTERS = 200_000
MAX_ROSTER_CHARACTERS = 4 << 20
"""Of a list of parties with their keys."""
_MAX_LEVELS = 32
_CHARACTERS_AN_ENTRY = 10
_EXPECTED = "expected YAML with key: value, without anchor, alias, tag, merge key or ${...}"
_MERGE = "<<"
_PROBLEMS = {"duplicate key": "a key stands twice", "unhashable key": "a key that is no text"}


_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]
    """PyYAML's safe loader with OmegaConf's words and numbers, which takes no key twice."""

    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """Return a mapping as a dictionary."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if keys and keys.most_common(1)[0][1] > 1:
            raise yaml.constructor.ConstructorError(problem="found duplicate key")
        return super().construct_mapping(node, deep=deep)


class _RefusedError(Exception):
    """What a text has that it may not have, in words that never quote it."""


def load_mapping(text: str, *, what: str, at_most: int = MAX_CHARACTERS) -> dict[str, Any]:
    """Parse a YAML mapping. What is wrong is told in words that never quote the text.

    Parameters
    ----------
    text : str
        One document.
    what : str
        What it is, for the sentence.
    at_most : int
        Characters; and a tenth of that of entries, keys included.

    Raises
    ------
    ConfigError
        If the text is longer, deeper or larger than any honest one, or not one plain mapping.
    """
    if len(text) > at_most:
        raise ConfigError(f"{what} has more than {at_most} characters; expected fewer")
    try:
        _check_events(text, at_most // _CHARACTERS_AN_ENTRY)
        content = yaml.load(text, Loader=_Loader)
        _check_values(content)
    except _RefusedError as error:
        raise ConfigError(f"{what} {error}; {_EXPECTED}") from None
    except (yaml.YAMLError, ValueError) as error:  # the latter: of a number
        raise ConfigError(f"{what} is not valid YAML{_why(error)}; {_EXPECTED}") from None
    assert isinstance(content, dict)
    return content


def _check_events(text: str, most: int) -> None:
    """Refuse what is no mapping, refers to something, has a tag, or is too deep or too large."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _RefusedError("has half a character") from None
    depth = entries = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if not isinstance(event, yaml.NodeEvent):
            continue
        if not entries and not isinstance(event, yaml.MappingStartEvent):
            break
        _check_node(event)
        entries += 1
        depth += isinstance(event, yaml.CollectionStartEvent)
        if depth > _MAX_LEVELS or entries > most:
            raise _RefusedError(f"has more than {_MAX_LEVELS} levels or {most} entries")
    if not entries:
        raise _RefusedError("is not a mapping")


def _check_node(event: yaml.NodeEvent) -> None:
    line = f"line {event.start_mark.line + 1 if event.start_mark else 0}"
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _RefusedError(f"is not valid YAML ({line} has an anchor or alias)")
    if getattr(event, "tag", None) is not None:
        raise _RefusedError(f"is not valid YAML ({line} has a tag)")
    if isinstance(event, yaml.ScalarEvent):
        _check_text(event.value)
        if event.value == _MERGE and event.implicit[0]:
            raise _RefusedError("has a merge key")


def _check_text(text: str) -> None:
    if "${" in text or text.strip() == "???":
        raise _RefusedError("has an interpolation, ${...} or ???")


def _check_values(value: Any) -> None:
    """Refuse keys that are no text, and numbers that are none or beyond 64 bits."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise _RefusedError("has a key that is not text")
        if _MERGE in value:
            raise _RefusedError("has a merge key")
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _check_values(inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _RefusedError(f"has the number {value}")
    elif isinstance(value, int) and abs(value) >= 2**64:
        raise _RefusedError("has a whole number of more than 64 bits")


def _why(error: Exception) -> str:
    problem = str(getattr(error, "problem", ""))
    for words, reason in _PROBLEMS.items():
        if words in problem:
            return f" ({reason})"
    mark = getattr(error, "problem_mark", None)
    return f" (near line {mark.line + 1})" if mark else ""
