from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.transport.messages import Hello, Join, Offer, pack, session_of, unpack

NONCE = "ab" * 32
HELLO = Hello(2, "fss", 1, 3, NONCE)
OFFER = Offer({"model": {}}, 32, NONCE, NONCE, "cd" * 32, 4, 0)


def test_round_trip() -> None:
    for message in (HELLO, OFFER, Join(NONCE, "AA:BB", "crypten")):
        assert unpack(pack(message), type(message)) == message


@given(st.binary(max_size=100))
def test_rubbish_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="should be Hello"):
        unpack(raw, Hello)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("version", 1, "version=1; expected 2"),
        ("version", "1", "version='1'; expected int"),
        ("protocol", "plain", "protocol='plain'; expected fss or crypten"),
        ("batch", True, "batch=True; expected int"),
        ("batch", 0, "batch=0; expected 1 to 1024"),
        ("batches", 10**9, "batches=1000000000"),
        ("nonce", "AB" * 32, "64 hexadecimal digits"),
        ("nonce", NONCE + "\n", "64 hexadecimal digits"),
        ("audit", 1, "audit=1; expected bool"),
        ("more", 1, "other fields"),
    ],
)
def test_a_field_out_of_range_is_named(key: str, value: Any, words: str) -> None:
    raw = json.dumps({**asdict(HELLO), key: value}).encode()
    with pytest.raises(ProtocolError, match=words):
        unpack(raw, Hello)


def test_crypten_is_not_audited() -> None:
    assert Hello(2, "fss", 1, 3, NONCE, audit=True).audit
    with pytest.raises(ProtocolError, match="audit; expected it with protocol fss only"):
        Hello(2, "crypten", 1, 3, NONCE, audit=True)


def test_a_missing_field_is_refused() -> None:
    values = asdict(HELLO)
    del values["nonce"]
    with pytest.raises(ProtocolError, match="other fields"):
        unpack(json.dumps(values).encode(), Hello)


def test_a_session_is_of_both_nonces_both_parties_and_the_plan() -> None:
    session = session_of(HELLO, OFFER, "A", "B")
    assert len(session) == 32
    others = {
        session_of(replace(HELLO, nonce="cd" * 32), OFFER, "A", "B"),
        session_of(HELLO, replace(OFFER, nonce=NONCE), "A", "B"),
        session_of(HELLO, replace(OFFER, plan="ef" * 32), "A", "B"),
        session_of(HELLO, OFFER, "B", "A"),
    }
    assert len(others) == 4
    assert session not in others


@pytest.mark.parametrize("limit", [-1.0, float("inf"), float("nan"), "64", 64])
def test_a_limit_of_scores_that_is_none_is_refused(limit: object) -> None:
    raw = json.dumps({**asdict(OFFER), "score_limit": limit}).encode()
    with pytest.raises(ProtocolError, match=r"score_limit|should be Offer"):
        unpack(raw, Offer)
