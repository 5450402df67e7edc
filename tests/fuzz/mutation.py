"""Changes of a message that leave it one: of its fields, or of the parts that it is made of.

`any_change` stands for a change of bytes that knows nothing of messages.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.protocol import wire
from primia_flwr.secagg.protocol.wire import decode, encode
from tests.fuzz.targets import KINDS

HEAD = 9  # of a part: a letter for its type, and its length
EDGES = [b"", b"\0", b"\x01", b"\x03", b"\x7f", b"\x80", b"\0\xff", b"\x7f" + b"\xff" * 7]
NUMBERS = (0, 1, 2, 3, 4, 5, 255, 256, 2**31, 2**63, 2**64)
NAMES = ("", "a", "s001", "s002", "s003", "s004", "s005", "s006", "é", "\0", "x" * 1024)
KIND_OF = {f"{kind.__name__}{near}".encode(): kind for kind in KINDS for near in ("", " near")}

Part = tuple[bytes, bytes]
AnyChange = Callable[[bytes], bytes]


class Mutator:
    """Draws changes; `draw` decides which."""

    def __init__(self, draw: random.Random, any_change: AnyChange) -> None:
        self.draw, self.any_change = draw, any_change

    def change(self, raw: bytes) -> bytes:
        """Return a message, or what was one, with a few changes."""
        message = read(raw)
        if message is not None and self.draw.random() < 0.8:
            for _ in range(self.draw.choice((1, 1, 2))):
                one = self.draw.choice(fields(message))
                value = self.field(str(one.type), getattr(message, one.name))
                message = replace(message, **{one.name: value})
            return encode(message)
        parts = split(raw)
        if not parts or self.draw.random() < 0.3:
            return self.any_change(raw)
        return join(self.parts(parts))

    # --- Fields -----------------------------------------------------------------------------

    def field(self, kind: str, value: Any) -> Any:
        if kind == str(int):
            return max(0, self.draw.choice((value - 1, value + 1, self.draw.choice(NUMBERS))))
        if kind == str(bytes):
            return self.content(value)
        if kind == str(wire.MembershipProof | None):
            return self.membership_proof(value)
        if kind == str(wire.Names):
            return tuple(sorted(self.entries(dict.fromkeys(value))))
        return self.entries(dict(value))

    def membership_proof(self, value: wire.MembershipProof | None) -> wire.MembershipProof | None:
        """Change one of its fields, leave it out, or put one in."""
        if value is None or self.draw.random() < 0.1:
            return None if value else wire.MembershipProof(5, 0, bytes(32), bytes(96))
        name = self.draw.choice(value._fields)
        kind = str(type(getattr(value, name)))
        return value._replace(**{name: self.field(kind, getattr(value, name))})

    def content(self, raw: bytes) -> bytes:
        return self.change(raw) if read(raw) else self.any_change(raw)

    def entries(self, table: dict[str, Any]) -> dict[str, Any]:
        """Take one out, put one in, or change or swap what is in it."""
        known = list(table)
        way = self.draw.randrange(4) if known else 1
        if way == 0:
            del table[self.draw.choice(known)]
        elif way == 1:
            old = table[self.draw.choice(known)] if known else b""
            table[self.draw.choice(NAMES)] = old
        else:
            one, other = self.draw.choice(known), self.draw.choice(known)
            if way == 2 and isinstance(table[one], bytes):
                table[one] = self.content(table[one])
            table[one], table[other] = table[other], table[one]
        return table

    # --- Parts ------------------------------------------------------------------------------

    def parts(self, parts: list[Part]) -> list[Part]:
        """Change, copy, move or delete one."""
        at, to = self.draw.randrange(len(parts)), self.draw.randrange(len(parts))
        kind, raw = parts[at]
        way = self.draw.randrange(6)
        if way == 0:
            parts[at] = (kind, self.any_change(raw))
        elif way == 1:
            parts[at] = (self.draw.choice((b"b", b"s", b"i", b"x")), raw)
        elif way == 2:
            parts[at] = (self.draw.choice((b"i", kind)), self.draw.choice(EDGES))
        elif way == 3:
            parts.insert(to, parts[at])
        elif way == 4:
            parts.insert(to, parts.pop(at))
        else:
            del parts[at : at + self.draw.choice((1, 1, 2))]
        return parts


def read(raw: bytes) -> Any:
    """Return the message that some bytes are, whatever its kind; None if they are none."""
    parts = split(raw[: 3 * HEAD + 80])
    kind = KIND_OF.get(parts[1][1]) if len(parts) > 1 else None
    try:
        return decode(raw, kind) if kind else None
    except ProtocolError:
        return None


def split(raw: bytes) -> list[Part]:
    """Return the whole parts at the beginning of some bytes: type and content."""
    parts, at = [], 0
    while at + HEAD <= len(raw):
        end = at + HEAD + int.from_bytes(raw[at + 1 : at + HEAD], "big")
        if end > len(raw):
            break
        parts.append((raw[at : at + 1], raw[at + HEAD : end]))
        at = end
    return parts


def join(parts: list[Part]) -> bytes:
    return b"".join(kind + len(raw).to_bytes(8, "big") + raw for kind, raw in parts)
