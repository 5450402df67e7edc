"""Chained lines: byte for byte what was written, and every other line is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pytest

from primia_flwr.privacy.ledger.chain import CHAIN as LEDGER
from primia_flwr.site.log import _CHAIN as SITE_LOG
from primia_flwr.storage.chain import GENESIS, Chain


@dataclass(frozen=True)
class Entry:
    number: int
    text: str
    more: dict[str, Any]
    previous: str
    hash: str


CHAIN = Chain(Entry)


def lines(count: int) -> list[bytes]:
    written, previous = [], GENESIS
    for number in range(1, count + 1):
        entry = CHAIN.entry(number, "ä", {"b": 1, "a": None}, previous)
        written.append(CHAIN.line(entry))
        previous = entry.hash
    return written


def test_a_line_is_sorted_json_with_the_hash_of_its_values_in_order() -> None:
    (line,) = lines(1)
    values = b'[1,"\\u00e4",{"a":null,"b":1},"' + b"0" * 64 + b'"]'
    digest = hashlib.sha256(values).hexdigest()
    assert line == (
        b'{"hash":"%b","more":{"a":null,"b":1},"number":1,"previous":"%b","text":"\\u00e4"}\n'
        % (digest.encode(), b"0" * 64)
    )


def test_the_formats_on_disk_are_those_of_before() -> None:
    """Lines that versions before this module wrote."""
    old = (
        b'{"body":{"a":1},"hash":"' + _ledger_hash().encode() + b'","kind":"opened",'
        b'"nonce":"0011","previous":"' + b"0" * 64 + b'","seq":1,"time":"2026-11-29T00:00:00"}\n'
    )
    assert LEDGER.line(LEDGER.read(old)) == old
    fields = [1, "2026-11-29T00:00:00", "left", {"bytes": 3, "speed": float("nan")}, "0" * 64]
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    names = ("number", "time", "event", "details", "previous", "hash")
    entry = dict(zip(names, [*fields, digest], strict=True))
    old = json.dumps(entry, sort_keys=True).encode() + b"\n"
    assert SITE_LOG.line(SITE_LOG.read(old)) == old


def _ledger_hash() -> str:
    values = [1, "0" * 64, "2026-11-29T00:00:00", "0011", "opened", {"a": 1}]
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def test_lines_are_followed_from_the_first_one_on() -> None:
    assert [entry.number for entry in CHAIN.follow(lines(3))] == [1, 2, 3]
    assert list(CHAIN.follow([])) == []


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (lambda old: [old[0], old[2]], 1),
        (lambda old: old[1:], 0),
        (lambda old: [old[0], old[2], old[1]], 1),
        (lambda old: [old[0], old[0], *old[1:]], 1),
    ],
    ids=["removed", "cut at the start", "swapped", "repeated"],
)
def test_what_does_not_follow_is_refused(change: Any, known: int) -> None:
    found = []
    with pytest.raises(ValueError, match="does not follow from the line before"):
        found.extend(_each(change(lines(3)), found))
    assert len(found) == known


def _each(changed: list[bytes], found: list[int]) -> list[int]:
    for entry in CHAIN.follow(changed):
        found.append(entry.number)
    return []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"b":1', b'"b":2'),
        (b'"b":1', b'"b": 1'),
        (b'"number":1', b'"number":1,"number":1'),
        (b'"number":1', b'"number":1.0'),
        (b'"number":1', b'"number":true'),
        (b'"number":1', b'"number":' + b"9" * 5000),
        (b'"b":1', b'"b":NaN'),
        (b'"b":1', b'"b":' + b"[" * 5000 + b"]" * 5000),
        (b"}\n", b"}"),
        (b"}\n", b"}\n\n"),
        (b"{", b"["),
    ],
)
def test_every_other_line_was_changed(old: bytes, new: bytes) -> None:
    (line,) = lines(1)
    assert old in line
    with pytest.raises(ValueError, match="was changed"):
        CHAIN.read(line.replace(old, new, 1))


def test_a_well_hashed_line_of_other_types_was_changed() -> None:
    for values in ((True, "x", {}, GENESIS), (1, 2, {}, GENESIS), (1, "x", [], GENESIS)):
        with pytest.raises(ValueError, match="was changed"):
            CHAIN.read(CHAIN.line(CHAIN.entry(*values)))
