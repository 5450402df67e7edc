"""The YAML of a policy and of an arriving experiment: one mapping, read in one way.

The gate and the code behind it read the same text. Nothing in it may mean something else to one
of them, or refer to anything: no anchor, alias, tag or merge key, no `${...}` (which would read
the hospital's environment into a value), no key that is not text or stands twice.
"""

import re
from typing import Any

from primia_flwr.errors import ConfigError
from primia_flwr.storage.reading import parse_yaml

MAX_CHARACTERS = 200_000
MAX_LEVELS = 32
MAX_ENTRIES = 20_000
_MERGE = "<<"
_MISSING = "???"
# What `reading` says of a text in its own words; anything else may quote the text.
_OWN_WORDS = re.compile(
    r"line \d+ has (an anchor or alias|a tag|a key that is no text)|it is nested too deeply"
    r"|it has (half a character|a number without end|the number -?(nan|inf))"
)


def load_mapping(text: str, *, what: str) -> dict[str, Any]:
    """Parse a YAML mapping. What is wrong is told in words that never quote the text.

    Raises
    ------
    ConfigError
        If the text is longer, deeper or larger than any honest one, or not one plain mapping.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{what} has more than {MAX_CHARACTERS} characters; expected fewer")
    try:
        content = parse_yaml(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what} is not valid YAML{_why(str(error))}; {_EXPECTED}") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ConfigError(f"{what} is {kind}, not a mapping; expected YAML with key: value")
    wrong = _first_wrong(content)
    if wrong:
        raise ConfigError(f"{what} has {wrong}; {_EXPECTED}")
    return content


_EXPECTED = "expected key: value, without anchor, alias, tag, merge key or ${...}"


def _why(reason: str) -> str:
    if reason.endswith("stands twice"):
        return " (a key stands twice)"
    if _OWN_WORDS.fullmatch(reason):
        return f" ({reason})"
    line = re.search(r"line (\d{1,6}), column", reason)
    return f" (near line {line[1]})" if line else ""


def _first_wrong(content: dict[Any, Any]) -> str:
    """Return what the mapping has that it may not have, or nothing."""
    level, entries, depth = list[Any]([content]), 0, 0
    while level:
        depth += 1
        entries += len(level)
        if depth > MAX_LEVELS or entries > MAX_ENTRIES:
            return f"more than {MAX_LEVELS} levels or {MAX_ENTRIES} entries"
        wrong = next((found for value in level if (found := _wrong(value))), "")
        if wrong:
            return wrong
        level = [inner for value in level for inner in _inner(value)]
    return ""


def _wrong(value: Any) -> str:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return "a key that is not text"
        texts = list(value)
    else:
        texts = [value] if isinstance(value, str) else []
    if _MERGE in texts and isinstance(value, dict):
        return "a merge key"
    if any("${" in text or text.strip() == _MISSING for text in texts):
        return "an interpolation, ${...} or ???"
    if isinstance(value, int) and abs(value) >= 2**64:
        return "a whole number of more than 64 bits"
    return ""


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
