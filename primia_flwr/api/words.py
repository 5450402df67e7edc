"""Settings of Python as the words that one types after a command."""

import os
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from primia_flwr.errors import ConfigError

Setting = str | Mapping[str, Any]
AnyPath = str | os.PathLike[str]


def as_words(settings: Sequence[Setting]) -> list[str]:
    """Return settings as words `key=value`; the values of a mapping are taken as they are.

    Raises
    ------
    ConfigError
        If one is neither a word nor a mapping of keys to plain values.
    """
    words = list[str]()
    for setting in settings:
        if isinstance(setting, str):
            words.append(setting)
        elif isinstance(setting, Mapping):
            words += [f"{_key(key)}={_value(str(key), value)}" for key, value in setting.items()]
        else:
            raise ConfigError(
                f"settings: {setting!r:.60} is a {type(setting).__name__}; expected words such as "
                '"federation.rounds=3", or a mapping such as {"federation.rounds": 3}'
            )
    return words


def as_path(key: str, path: object) -> str:
    """Return a path as text, whatever object names it.

    Raises
    ------
    ConfigError
        If it is no path.
    """
    if isinstance(path, str | os.PathLike) and isinstance(text := os.fspath(path), str):
        return text
    raise ConfigError(
        f"{key}={path!r:.60}; expected the path of a folder or a file, as text, pathlib.Path or "
        "the result of pf.train"
    )


def _key(key: object) -> str:
    if isinstance(key, str) and re.fullmatch(r"\+{0,2}[A-Za-z_][\w./@-]*", key):
        return key
    raise ConfigError(
        f"settings: {key!r:.60} is no key; expected a name with dots, e.g. federation.rounds"
    )


def _value(key: str, value: object) -> str:
    """Return a value as Hydra's grammar reads it back unchanged."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return _quoted(as_path(key, value))
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, Mapping):
        inner = (f"{_key(name)}: {_value(key, one)}" for name, one in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return "[" + ",".join(_value(key, one) for one in value) + "]"
    raise ConfigError(
        f"settings: {key}={value!r:.60} is a {type(value).__name__}; expected text, a path, a "
        "number, True, False, None, or a list or mapping of these"
    )


def _quoted(text: str) -> str:
    r"""Return text in quotes; backslashes count only before a quote, an interpolation, the end."""
    escaped = re.sub(r"(\\*)('|\$\{)", r"\1\1\\\2", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
