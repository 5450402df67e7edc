"""What stands in the files of a bundle: text that a person can read, and that Python reads alike.

A file that is no plain text is refused: native code and bytecode under another name, characters
that an editor does not show (a bidirectional one shows code as a comment), a Python source that
names another encoding than the one in which it is reviewed.
"""

import hashlib
import io
import tokenize
import tomllib
from collections.abc import Mapping
from typing import Any

from primia_flwr.errors import PolicyRefusal
from primia_flwr.site.bundle.names import CONTENT_LIST
from primia_flwr.storage.printable import hidden, shown

PROJECT_FILE = "pyproject.toml"
_MAX_PROJECT_BYTES = 256 * 1024
_MAX_ENTRIES, _MAX_KEY, _MAX_LEVELS = 5000, 200, 32


def check_texts(files: Mapping[str, bytes]) -> None:
    """Refuse files that do not read as they run.

    Raises
    ------
    PolicyRefusal
        At the first file that is no visible text in UTF-8.
    """
    for name, raw in files.items():
        try:
            text = raw.decode("utf-8").replace("\r\n", "\n")
            encoding = _python_encoding(raw) if name.endswith(".py") else "utf-8"
        except (UnicodeDecodeError, SyntaxError, LookupError):
            raise _no_text(name) from None
        if encoding != "utf-8" or any(hidden(c) for c in set(text) - {"\n", "\t"}):
            raise _no_text(name)


def check_content_list(files: Mapping[str, bytes]) -> None:
    """Refuse a list of files that does not say what the files are; there may be none.

    Flower checks only the files that the list names, wherever they lie.

    Raises
    ------
    PolicyRefusal
        If `.info/CONTENT` is not the list that `flwr build` would write.
    """
    if CONTENT_LIST not in files:
        return
    expected = {
        f"{name},{hashlib.sha256(raw).hexdigest()},{len(raw) * 8}"
        for name, raw in files.items()
        if name != CONTENT_LIST
    }
    lines = files[CONTENT_LIST].decode("utf-8").strip().split("\n")
    if len(lines) != len(expected) or set(lines) != expected:
        raise PolicyRefusal(
            f"bundle's {CONTENT_LIST} does not fit its files; expected the list that `flwr build` "
            "writes"
        )


def read_project(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the bundle's `pyproject.toml`, of bounded size, depth and length of keys.

    Raises
    ------
    PolicyRefusal
        If there is none, it is no TOML, or is larger than any honest one.
    """
    raw = files.get(PROJECT_FILE)
    if raw is None or len(raw) > _MAX_PROJECT_BYTES:
        raise PolicyRefusal(
            f"bundle has no {PROJECT_FILE}, or one of more than {_MAX_PROJECT_BYTES} bytes; "
            "expected the description of a Flower app"
        )
    try:
        project = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise PolicyRefusal(f"bundle's {PROJECT_FILE} cannot be read; expected TOML") from None
    _check_bounded(project)
    return project


def _check_bounded(project: dict[str, Any]) -> None:
    """Refuse what grows when Flower flattens it: a key's whole path stands before each value."""
    level, entries, depth = [project], 0, 0
    while level:
        below = list[Any]()
        for table in level:
            entries += len(table)
            if isinstance(table, dict) and any(len(key) > _MAX_KEY for key in table):
                raise _too_large()
            values = table.values() if isinstance(table, dict) else table
            below += [value for value in values if isinstance(value, dict | list)]
        level, depth = below, depth + 1
        if entries > _MAX_ENTRIES or depth > _MAX_LEVELS:
            raise _too_large()


def _python_encoding(raw: bytes) -> str:
    return tokenize.detect_encoding(io.BytesIO(raw).readline)[0]


def _no_text(name: str) -> PolicyRefusal:
    return PolicyRefusal(
        f"bundle's {shown(name)} is no text in UTF-8 whose every character can be seen; expected "
        "sources that read as they run"
    )


def _too_large() -> PolicyRefusal:
    return PolicyRefusal(
        f"bundle's {PROJECT_FILE} has too many entries, levels or too long keys; expected the "
        "description of a Flower app"
    )
