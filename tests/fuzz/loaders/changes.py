"""Changes of a file: of its bytes, and of the values in it where it is JSON, lines of JSON or YAML.

What is put in are the values that have broken loaders: depth, numbers without end, half a
character, dates that do not exist, tags, anchors, and bytes that are no text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import yaml

from tests.fuzz.loaders.archives import change_archive

MAX_BYTES = 1 << 16

TOKENS = [
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\x80\x04", b"\x1b[2J",
    b"\xe2\x80\xae", b"&a [*a]", b"*a", b"<<: ", b"!!binary x", b"!!timestamp 2020-13-45",
    b"2020-13-45", b"2001-02-30 99:99:99", b"!!python/object:os.system x", b"!!set {a}", b"? a",
    b"!!int x", b"!!float x", b"!!bool x", b"!!null x", b"!!omap [a]", b"!!pairs [a: 1]", b"= ",
    b"!!str 1", b"!<tag:yaml.org,2002:int> z", b"%YAML 1.1\n---\n", b"---\n", b"1:30", b"0b2",
    b"0x_", b"0o7", b"1_0", b"1e999", b".nan", b".inf", b"NaN", b"Infinity", b"-1", b"-0", b"1.5",
    b"9" * 5000, b"0x" + b"f" * 5000, b"[" * 1500, b"{" * 1500, b'{"a":' * 1500, b"- " * 1500,
    b"${oc.env:HOME}", b"${a}", b"${", b"???", b"null", b"~", b"true", b": ", b"- ", b"'", b'"',
    b"\\ud800", b'"\\u0000"', b"../../../etc/passwd", b",", b'"",""', b"\\", b"%s",
    b"{0.__class__}",
]  # fmt: skip
BYTES = (0, 255, 127, 128, 32, 10, 91, 123, 34, 39, 58)
NUMBERS = (0, 1, 2**31, 2**32, 2**63 - 1, 2**64 - 1)


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 1.5, -0.0, float("nan"), float("inf"), -float("inf"), 1e308,
    2**31, 2**53 + 1, 2**63, 2**64, 2**200, 10**400, "", " ", "a", "\0", "\ud800", "\u202e",
    "x" * 3000, "0", "00", "0" * 64, "ff", "z" * 64, "nan", "1e999", "../..", "/etc/passwd",
    "${oc.env:HOME}", "0001-01-01T00:00:00", "9999-12-31T23:59:59+00:00", "2020-13-45", "é", "İ",
    [], {}, [[]], [None], {"": None}, {"a": {}}, [0] * 300, {"a": [1, "b"]}, _deep(70), _deep(600),
]  # fmt: skip


class Changer:
    """Draws changes of an example; `draw` decides which."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def change(self, raw: bytes) -> bytes:
        """Return an example with a few changes, at most `MAX_BYTES` long or as long as before."""
        whole = None
        if self.draw.random() < 0.6:
            whole = self._structured(raw)
        changed = self._bytes(raw) if whole is None else whole
        return changed[: max(MAX_BYTES, len(raw))]

    # --- Bytes ------------------------------------------------------------------------------

    def _bytes(self, raw: bytes) -> bytes:
        content = bytearray(raw)
        for _ in range(self.draw.choice((1, 1, 1, 2, 3, 6))):
            at = self.draw.randrange(len(content) + 1)
            self.draw.choice(self._ways())(content, at)
        return bytes(content)

    def _ways(self) -> list[Callable[[bytearray, int], None]]:
        return [
            self._flip, self._set, self._delete, self._token, self._copy, self._line,
            self._number, self._cut, self._noise,
        ]  # fmt: skip

    def _flip(self, content: bytearray, at: int) -> None:
        if content:
            content[at % len(content)] ^= 1 << self.draw.randrange(8)

    def _set(self, content: bytearray, at: int) -> None:
        if content:
            content[at % len(content)] = self.draw.choice((*BYTES, self.draw.randrange(256)))

    def _delete(self, content: bytearray, at: int) -> None:
        del content[at : at + self.draw.choice((1, 2, 8, 40, len(content)))]

    def _token(self, content: bytearray, at: int) -> None:
        content[at:at] = self.draw.choice(TOKENS)

    def _copy(self, content: bytearray, at: int) -> None:
        start = self.draw.randrange(len(content) + 1)
        content[at:at] = content[start : start + self.draw.choice((1, 8, 64, 512))]

    def _line(self, content: bytearray, at: int) -> None:
        """Put a token in the place of a value, up to the end of its line."""
        start = content.find(b":", at)
        if start >= 0:
            end = content.find(b"\n", start)
            content[start + 1 : end if end >= 0 else None] = b" " + self.draw.choice(TOKENS)

    def _number(self, content: bytearray, at: int) -> None:
        """Put in a number as formats with lengths in them have it."""
        size = self.draw.choice((2, 4, 8))
        number = self.draw.choice((*NUMBERS, len(content))) % 2 ** (8 * size)
        content[at : at + size] = number.to_bytes(size, self.draw.choice(("big", "little")))

    def _cut(self, content: bytearray, at: int) -> None:
        del content[at:]

    def _noise(self, content: bytearray, at: int) -> None:
        content[at:at] = self.draw.randbytes(self.draw.randrange(1, 9))

    # --- Values -----------------------------------------------------------------------------

    def _structured(self, raw: bytes) -> bytes | None:
        """Change values; None where the bytes hold none that are known how to change."""
        if raw.startswith(b"PK\x03\x04"):
            return change_archive(raw, self.draw, self._bytes)
        head = int.from_bytes(raw[:8], "little")
        if raw[8:9] == b"{" and head < len(raw):  # safetensors
            header = self._json(raw[8 : 8 + head])
            return header and len(header).to_bytes(8, "little") + header + raw[8 + head :]
        if raw.lstrip()[:1] in (b"{", b"["):
            return self._lines(raw)
        return self._yaml(raw)

    def _lines(self, raw: bytes) -> bytes | None:
        """Change one of several lines of JSON, or the whole."""
        lines = raw.splitlines(keepends=True)
        if len(lines) < 2 or lines[1].lstrip()[:1] not in (b"{", b"["):
            return self._json(raw)
        at = self.draw.randrange(len(lines))
        changed = self._json(lines[at])
        if changed is None:
            return None
        lines[at] = changed + b"\n"
        return b"".join(lines)

    def _json(self, raw: bytes) -> bytes | None:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        for _ in range(self.draw.choice((1, 1, 2))):
            value = self._value(value)
        compact = self.draw.choice((None, (",", ":")))
        return json.dumps(value, separators=compact, sort_keys=compact is not None).encode()

    def _yaml(self, raw: bytes) -> bytes | None:
        try:
            value = yaml.safe_load(raw)
        except Exception:
            return None
        if not isinstance(value, dict | list):
            return None
        letters = self.draw.random() < 0.5
        try:
            text = json.dumps(self._value(value), default=str, ensure_ascii=letters)
        except (TypeError, ValueError):  # a list that holds itself, a key that is none in JSON
            return None
        return text.encode("utf-8", "surrogatepass")

    def _value(self, value: Any) -> Any:
        """Change one thing somewhere in a value."""
        if isinstance(value, dict) and value and self.draw.random() < 0.85:
            return self._mapping(dict(value))
        if isinstance(value, list) and value and self.draw.random() < 0.85:
            return self._list(list(value))
        if isinstance(value, str) and self.draw.random() < 0.3:
            return self._bytes(value.encode("utf-8", "replace")).decode("utf-8", "replace")
        if type(value) is int and self.draw.random() < 0.4:
            return value + self.draw.choice((-1, 1, 2**40))
        return self.draw.choice(VALUES)

    def _mapping(self, value: dict[str, Any]) -> dict[str, Any]:
        key = self.draw.choice(list(value))
        way = self.draw.random()
        if way < 0.1:
            del value[key]
        elif way < 0.2:
            value[self.draw.choice(("", "a", f"{key} ", str(key).upper()))] = value[key]
        elif way < 0.3:
            value[key] = value[self.draw.choice(list(value))]
        else:
            value[key] = self._value(value[key])
        return value

    def _list(self, value: list[Any]) -> list[Any]:
        at, way = self.draw.randrange(len(value)), self.draw.random()
        if way < 0.1:
            del value[at]
        elif way < 0.2:
            value.insert(at, value[at])
        elif way < 0.25:
            value *= 40
        else:
            value[at] = self._value(value[at])
        return value
