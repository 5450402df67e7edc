"""Messages keep what they say, and the decoder takes nothing but what the encoder writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg import wire
from primia_flwr.secagg.client import ClientInstance
from primia_flwr.secagg.keys import bind
from primia_flwr.secagg.wire import SharesRequest, SignRequest, UnmaskReply, decode, encode
from tests.secagg.federation import members

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SORTED_NAMES = st.lists(NAMES, unique=True, max_size=5).map(lambda names: tuple(sorted(names)))
TABLES = st.dictionaries(NAMES, st.binary(max_size=70), max_size=5)
NUMBERS = st.integers(0, 2**63 - 1)
OF_TYPE = {
    str(int): NUMBERS,
    str(bytes): st.binary(max_size=200),
    str(wire.Names): SORTED_NAMES,
    str(wire.Table): TABLES,
}
KINDS = [kind for kind in vars(wire).values() if getattr(kind, "__dataclass_fields__", None)]


def messages(kind: Any) -> st.SearchStrategy[Any]:
    parts = {name: OF_TYPE[str(f.type)] for name, f in kind.__dataclass_fields__.items()}
    return st.builds(kind, **parts)


ANY_MESSAGE = st.sampled_from(KINDS).flatmap(messages)


def test_there_are_ten_kinds() -> None:
    assert len(KINDS) == 10


@given(ANY_MESSAGE)
def test_what_is_encoded_is_decoded(message: Any) -> None:
    assert decode(encode(message), type(message)) == message


@given(ANY_MESSAGE, st.data())
def test_a_changed_message_is_refused_or_another_message(message: Any, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    check_decoder(bytes(raw), type(message))


@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_any_bytes_are_refused_or_canonical(raw: bytes, kind: Any) -> None:
    check_decoder(raw, kind)


@settings(max_examples=200)
@given(st.lists(st.one_of(NUMBERS, NAMES, st.binary(max_size=40)), max_size=12), st.data())
def test_any_parts_are_refused_or_canonical(parts: list[Any], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    check_decoder(bind(wire.VERSION, kind.__name__, *parts), kind)


@given(ANY_MESSAGE, st.data())
def test_a_truncated_message_is_refused(message: Any, data: st.DataObject) -> None:
    raw = encode(message)
    with pytest.raises(ProtocolError):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))], type(message))


def check_decoder(raw: bytes, kind: Any) -> None:
    try:
        message = decode(raw, kind)
    except ProtocolError:
        return
    assert encode(message) == raw


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (bind("primia secagg v2", "SignRequest", 1, 0), "expected 'primia secagg v1'"),
        (bind(wire.VERSION, "UnmaskRequest", 1, 0, 0), "expected 'primia secagg v1' 'SignR"),
        (bind(wire.VERSION, "SignRequest", 1), "ends early"),
        (bind(wire.VERSION, "SignRequest", 1, 0, 0), "more after its end"),
        (bind(wire.VERSION, "SignRequest", -1, 0), "the number -1"),
        (bind(wire.VERSION, "SignRequest", "1", 0), "str in place of a field"),
        (bind(wire.VERSION, "SignRequest", 1, 2, "b", "a"), "sorted, distinct names"),
        (bind(wire.VERSION, "SignRequest", 1, 2, "a", "a"), "sorted, distinct names"),
        (bind(wire.VERSION, "SignRequest", 1, 10**12, "a"), "ends early"),
        (bind(wire.VERSION, "SignRequest", 10**30, 0), "a part of kind b'i' with 13 bytes"),
        (bind(wire.VERSION)[:-1] + b"\xff", "not UTF-8"),
        (b"s" + (2**63).to_bytes(8, "big"), "a part of 9223372036854775808 bytes"),
        (b"b" * 8, "a part of"),
    ],
)
def test_malformed(raw: bytes, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        decode(raw, SignRequest)


def test_a_message_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 10)
    with pytest.raises(ProtocolError, match="expected at most 10"):
        decode(bytes(11), SignRequest)


def test_a_state_shows_no_secret() -> None:
    client = ClientInstance(members(1)["s001"], 1)
    state = decode(client.to_bytes(), wire.ClientState)
    assert state.seed.hex() not in repr(state)
    assert str(state.seed) not in repr(state)
    assert str(state.masking) not in repr(state)


def test_shares_are_tables() -> None:
    assert decode(encode(UnmaskReply({"b": b"1"}, {})), UnmaskReply).seeds == {"b": b"1"}
    request = SharesRequest(3, 2, {"b": b"", "a": b"x"})
    assert tuple(decode(encode(request), SharesRequest).keys) == ("a", "b")
