"""Reading what others wrote, files and texts alike: strictly, and one sentence where it fails.

    with reading(file, error=FederationError, expected="the sites of the run"):
        content = parse_json(read_text(file))
        sites = [Site(**site) for site in content["sites"]]

Whatever goes wrong inside becomes the error that is named, so that no loader has to know what a
parser may raise. JSON is taken with less than its library takes: no key twice, no NaN, no lone
surrogate, no depth without end. YAML is read by `config.plain_yaml`.
"""

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from primia_flwr.errors import PrimiaError

MAX_BYTES = 64 << 20
_MAX_KEY_BYTES = 1 << 20
MAX_DEPTH = 64
_LONGEST_REASON = 200
_NO_NUMBER = re.compile(r"(?:invalid literal for int.*|could not convert string.*): ('.*')$")
_OF_KEYS = re.compile("load PEM|PEM file|Could not deserialize|OpenSSH private key format")
_OF_PYTHON = re.compile(
    r"\b(?:ind(?:ices|ex) (?:must be|out of range)|object (?:is not|has no|does not|cannot)|"
    r"unpack|values? to unpack|unhashable|positional argument|keyword argument|"
    r"argument (?:must be|\d)|unsupported operand|not (?:iterable|subscriptable)|"
    r"not supported between)"
)
"""What Python says of a value that is none of its kind, which helps nobody who did not write it."""


@contextmanager
def reading(what: object, *, error: type[PrimiaError], expected: str) -> Iterator[None]:
    """Turn whatever parsing raises into one sentence; an error that names `what` passes unchanged.

    Parameters
    ----------
    what : object
        The file, or what the text is.
    error : type
        What is raised instead.
    expected : str
        What it should have been, and the remedy.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as found:  # on arbitrary bytes parsers raise almost anything
        if isinstance(found, PrimiaError) and str(what) in str(found):
            raise
        raise error(f"{what} cannot be read ({reason_of(found)}); expected {expected}") from None


def reason_of(error: Exception) -> str:
    """Return why something cannot be read, on one line that a terminal can show."""
    if isinstance(error, OSError):
        text = error.strerror or type(error).__name__
    elif isinstance(error, UnicodeDecodeError):
        text = "it is no text in UTF-8"
    elif isinstance(error, RecursionError):
        text = "it is nested too deeply"
    elif isinstance(error, KeyError):
        text = f"it has no {error}"
    elif isinstance(error, json.JSONDecodeError):
        text = f"it is no JSON at line {error.lineno}, column {error.colno}"
    elif found := _NO_NUMBER.search(str(error)):
        text = f"{found[1]} is no number"
    elif _OF_KEYS.search(str(error)):
        text = "it holds no key or certificate that can be read"
    elif isinstance(error, AttributeError) or _OF_PYTHON.search(str(error)):
        text = "it is not built as it should be"
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _LONGEST_REASON else f"{shown[:_LONGEST_REASON]}…"


def read_bytes(file: Path, *, at_most: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no regular file (a pipe would wait for ever), or has more than `at_most` bytes.
    """
    return _read(file, at_most)[0]


def read_private(file: Path, *, error: type[PrimiaError], expected: str) -> bytes:
    """Return the content of a private key, which nobody but its owner may read.

    Mode and owner are those of the file that is read, at the end of any symbolic links.

    Raises
    ------
    error
        If it cannot be read, others can read or change it, or it is somebody else's.
    """
    with reading(file, error=error, expected=expected):
        content, status = _read(file, _MAX_KEY_BYTES)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise error(
            f"{file} has the mode {mode:o}, so others can read it; expected 600; chmod 600 {file}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise error(
            f"{file} belongs to user {status.st_uid}, who can read and change it; expected user "
            f"{os.geteuid()}, who runs this; chown {os.geteuid()} {file}"
        )
    return content


def read_text(file: Path, *, at_most: int = MAX_BYTES) -> str:
    """Return the content of a regular file as text, which must be UTF-8; as `read_bytes`."""
    return read_bytes(file, at_most=at_most).decode("utf-8")


def parse_json(text: str | bytes, *, finite: bool = True, half_characters: bool = False) -> Any:
    """Parse JSON.

    `text`: in UTF-8. `finite`: refuse NaN and infinity, which Python writes though JSON does not
    know them. `half_characters`: take lone surrogates, with which Python writes names of files that
    are not UTF-8.

    Raises
    ------
    ValueError
        If it is anything else, a key stands twice, or it is nested deeper than `MAX_DEPTH`.
    """
    decoded = text if isinstance(text, str) else bytes(text).decode("utf-8")
    try:
        value = json.loads(decoded, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_plain(value, finite=finite, half_characters=half_characters)
    return value


def check_entry(entry: object, kinds: Mapping[str, tuple[type, ...]]) -> None:
    """Refuse what is no mapping with these keys, each with a value of one of its types.

    Raises
    ------
    ValueError
        Naming the key. True and false are no numbers.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"a {type(entry).__name__} stands where an entry should")
    for key, types in kinds.items():
        if key not in entry:
            raise ValueError(f"it has no {key!r}")
        if type(entry[key]) not in types:
            raise ValueError(f"{key}={entry[key]!r:.60}")


def _read(file: Path, at_most: int) -> tuple[bytes, os.stat_result]:
    """Return the content and the status of one and the same file."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        content = stream.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError(f"it has more than {at_most} bytes")
    return content, status


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        _check_unique([name for name, _ in pairs])
    return values


def _check_unique(keys: Sequence[str]) -> None:
    seen = set[str]()
    for key in keys:
        if key in seen:
            raise ValueError(f"the key {key!r:.60} stands twice")
        seen.add(key)


def _check_plain(value: Any, *, finite: bool, half_characters: bool) -> None:
    """Refuse depth, lone surrogates, and numbers that are none or beyond a double."""
    level, waiting = 0, [value]
    while waiting:
        if level > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        waiting = [inner for outer in waiting for inner in _inner(outer, finite, half_characters)]
        level += 1


def _inner(value: Any, finite: bool, half_characters: bool) -> list[Any]:
    """Check one value; return those in it."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str) and not half_characters:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("it has half a character") from None
    elif isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            raise ValueError("it has a number without end") from None
        if finite and not math.isfinite(number):
            raise ValueError(f"it has the number {number}")
    return []
