"""What a user types, `key=value`, as the overrides that Hydra's grammar reads as it was meant.

A key of text takes what stands behind `=` as it is: a path with blanks, umlauts, brackets, commas
or equals signs needs no quotes but the shell's. Quotes around the whole value are taken off.
"""

import re
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from primia_flwr.config import renamed
from primia_flwr.config.keys import expected, kind_of, plain, unknown
from primia_flwr.config.root import app_root
from primia_flwr.errors import ConfigError
from primia_flwr.storage.printable import printable

_KEY = re.compile(r"[+~]*([A-Za-z_][\w-]*(?:[./@][\w-]+)*)")
_PIECE = re.compile(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,])+""")
_FUNCTION = re.compile(
    r"(choice|range|interval|glob|shuffle|sort|tag|extend_list)\(.*\)", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SAFE = re.compile(r"[A-Za-z0-9_.+-]+")


def typed(
    words: Sequence[str], schema: type[Any], *, groups: bool = True, sweep: bool = False
) -> list[str]:
    """Return the words of a user as overrides for a configuration that becomes a `schema`.

    `words`: `key=value`, `+key=value` or `~key`; overrides that this returned stay as they are.
    `schema`: a dataclass, which says which keys there are, and which of them hold text. `groups`:
    a section may be given by the name of a file in `conf/`, e.g. `data=folder`. `sweep`: commas
    separate values of which each is tried.

    Raises
    ------
    ConfigError
        If a word is no `key=value`, a key is unknown, or a value is no such thing.
    """
    renamed.check_overrides(words)
    return [_override(word, schema, groups, sweep) for word in words]


def quoted(text: str) -> str:
    r"""Return text in quotes; backslashes count only before a quote and at the end."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def is_key(word: str) -> bool:
    """Tell whether a word begins as `key=`, so that it is no bare value with an equals sign."""
    return bool(_KEY.fullmatch(word.partition("=")[0]))


def _key_of(word: str) -> str:
    name, equals, _ = word.partition("=")
    match = _KEY.fullmatch(name)
    if not match or (not equals and not name.startswith("~")):
        raise ConfigError(
            f"{printable(word, limit=200)!r} is not understood; expected key=value, e.g. "
            "federation.rounds=5"
        )
    return match.group(1)


def _override(word: str, schema: type[Any], groups: bool, sweep: bool) -> str:
    name, equals, value = word.partition("=")
    key = _key_of(word)
    if sweep and key.partition(".")[0].partition("/")[0] in ("hydra", "sweep"):
        return _for_hydra(name, value) if equals else word
    kind = kind_of(schema, key)
    if key == "experiment" and value.endswith(".yaml"):
        return word  # a file, which `config.load` looks for
    if _chooses(key, kind, groups):
        return f"{name}={_choice(key, value, kind, sweep)}" if equals else word
    if key.startswith("hydra"):
        raise ConfigError(f"{word} does nothing here; expected keys of the command; leave it out")
    if kind is None:
        raise ConfigError(printable(unknown(key, schema), limit=2000))
    if not equals:
        return word
    return f"{_prefix(name, key, schema)}{key}={_value(key, value, plain(kind), sweep)}"


def _chooses(key: str, kind: Any, groups: bool) -> bool:
    """Tell whether a key names a group of `conf/`, so that its value is the name of a file."""
    known = groups and not key.startswith(("commands", "hydra")) and "." not in key
    return known and (kind is None or is_dataclass(kind)) and (app_root() / "conf" / key).is_dir()


def _prefix(name: str, key: str, schema: type[Any]) -> str:
    """Let a key be added that the YAML leaves out, e.g. an option of a rule."""
    above = kind_of(schema, key.rpartition(".")[0]) if "." in key else schema
    return "++" if name != key or not is_dataclass(above) else ""


def _choice(key: str, value: str, kind: Any, sweep: bool) -> str:
    """Return the name of a file of `conf/`; null only where there need not be any."""
    if value.startswith("{") or (sweep and "," in value) or not value:
        return value
    if value == "null":
        if kind is not None:
            names = sorted(path.stem for path in (app_root() / "conf" / key).glob("*.yaml"))
            raise ConfigError(f"{key}=null; expected one of {', '.join(names)}")
        return value
    return value if _is_quoted(value) or _reads(value) == value else quoted(value)


def _value(key: str, value: str, kind: Any, sweep: bool) -> str:
    if value == "???":
        raise ConfigError(f"{key}=???; expected {expected(kind)}")
    if sweep and _FUNCTION.fullmatch(value):
        return value
    inside = typing.get_args(kind)
    if kind is str:
        return _text(value, sweep)
    if typing.get_origin(kind) is list and inside == (str,) and not _sweeps(value, sweep):
        return _list(key, value)
    if _SAFE.fullmatch(value) or not value:
        return value
    if inside == (str, str) and value.startswith("{") and value.endswith("}"):
        return _mapping(value)
    if kind in (int, float, bool) and not sweep and "," in value:
        raise ConfigError(
            f"{key}={printable(value, limit=80)}; expected {expected(kind)}; give one value (with "
            f"primia train -m several are tried, each in a run of its own)"
        )
    return value if _parses(value) else quoted(value)


def _text(value: str, sweep: bool) -> str:
    """Return text as it is typed; of a sweep, each of the texts that commas separate."""
    if not value or value == "null" or _is_quoted(value):
        return value
    if _CONTROL.search(value):
        raise ConfigError(
            f"{printable(value, limit=200)!r} has a control character, e.g. a line break; "
            "expected text of one line"
        )
    _check_home(value)
    if sweep and "," in value and not _is_there(value):
        return ",".join(_text(piece.strip(), False) for piece in _PIECE.findall(value))
    return quoted(value)


def _check_home(value: str) -> None:
    """Refuse a path in the home of nobody, which no command could look up."""
    if not value.startswith("~"):
        return
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{printable(value, limit=200)} begins with the home of a user who is none here; "
            "expected a path: write it out, or ./~ for a folder of that name"
        ) from None


def _is_there(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except OSError:  # of a name too long for any file
        return False


def _list(key: str, value: str) -> str:
    """Return a list of texts, each as it is typed."""
    if value == "null" or "${" in value:
        return value
    if not (value.startswith("[") and value.endswith("]")):
        shown = printable(value, limit=200)
        raise ConfigError(f"{key}={shown}; expected a list, e.g. {key}=[{shown.strip('[]')}]")
    pieces = [piece.strip() for piece in _PIECE.findall(value[1:-1])]
    return "[" + ",".join(_text(piece, False) or "''" for piece in pieces) + "]"


def _mapping(value: str) -> str:
    """Return names with texts, each as it is typed."""
    pieces = [piece.partition(":") for piece in _PIECE.findall(value[1:-1])]
    texts = [(name.strip(), _text(text.strip(), False) or "''") for name, _, text in pieces]
    return "{" + ",".join(f"{name}: {text}" for name, text in texts) + "}"


def _sweeps(value: str, sweep: bool) -> bool:
    """Tell whether lists of which each is tried stand beside each other: [a],[b]."""
    return sweep and bool(re.search(r"\]\s*,\s*\[", value))


def _is_quoted(value: str) -> bool:
    return value[:1] in ("'", '"') and isinstance(_reads(value), str)


def _for_hydra(name: str, value: str) -> str:
    return f"{name}={value if not value or _parses(value) else quoted(value)}"


def _parses(value: str) -> bool:
    return _reads(value) is not None


def _reads(value: str) -> object:
    """Return what Hydra reads in a value: one text as it is, anything else as its value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString
    from hydra.errors import HydraException

    if _SAFE.fullmatch(value) and not value[0].isdigit():
        return value
    try:
        read = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None
    found = read.value()
    if isinstance(found, QuotedString):
        return found.text
    return found if found is not None else ()
