"""Inputs that broke a loader once: each is refused now, in one line that a terminal can show."""

from __future__ import annotations

from pathlib import Path

import pytest

from primia_flwr.errors import PrimiaError
from tests.fuzz.loaders.target import make, names

DEEP = 1500
SHORT = (
    b"name: demo\nfederation: {min_sites: 3}\naggregation: {name: secure}\nprivacy: {mode: none}\n"
)
FINDINGS = {
    "an unknown tag at a key (AttributeError)": (
        "gate",
        SHORT + b"search: {population: 2, space: {training.learning_rate: {low: 0.1, high: 1, "
        b"!!timestamp 2020-13-45log: true}}}\n",
    ),
    "a truth value that is none (KeyError)": ("gate", SHORT + b"dry_run: !!bool x\n"),
    "an alias of itself": ("gate", SHORT + b"name: &a [*a]\n"),
    "depth (RecursionError)": (
        "identities of a simulation",
        b'{"a": "' + b"00" * 32 + b'", "b": ' + b'{"a":' * DEEP,
    ),
    "no text (UnicodeDecodeError)": ("policy", b"\0\0\0???\1\0\0\0\xd9&\x165S\xbb\xfc\xf1unich "),
    "digits without end (ValueError)": (
        "policy",
        b"site: munich\nsuperlink: a:1\nmin_sites: " + b"9" * 5000,
    ),
    "a date that does not exist (ValueError)": ("roster", b"federation: 2020-13-45\nsites: []\n"),
    "depth in a log (RecursionError)": (
        "site log",
        b'{"details": {}, "event": "request", "hash": "", "number": 1, "previous": ' + b"[" * DEEP,
    ),
    "an algorithm that nobody knows (UnsupportedAlgorithm)": ("public line", b"csh-ed25519 25519 "),
    "a ledger's key that is no ASCII (TypeError)": (
        "ledger",
        b'{"body": {"key": "\xc3\xa9"}, "kind": "opened"}\n',
    ),
    "a search without its configurations (KeyError)": (
        "search of a run",
        b'{"space": {}, "rungs": [], "configurations": [], "chosen": 0}',
    ),
    "numbers that are texts (TypeError)": ("run folder", b'\1{"federated": {"n": "3"}}'),
}


@pytest.mark.parametrize(("target", "raw"), FINDINGS.values(), ids=FINDINGS)
def test_what_broke_a_loader_once_is_refused(target: str, raw: bytes, tmp_path: Path) -> None:
    names()
    with pytest.raises(PrimiaError) as caught:
        make(target, tmp_path).load(raw)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
