"""Messages keep what they say, and the decoder takes nothing but what the encoder writes.

So does whatever else reads bytes from elsewhere: see `tests.fuzz.targets`.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import bind
from primia_flwr.secagg.protocol import wire
from primia_flwr.secagg.protocol.client import ClientInstance
from primia_flwr.secagg.protocol.vault import Vault
from primia_flwr.secagg.protocol.wire import SharesRequest, SignRequest, UnmaskReply, decode, encode
from primia_flwr.secagg.state.journal import Journal
from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import KINDS, TARGETS, seeds
from tests.secagg.federation import members

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SORTED_NAMES = st.lists(NAMES, unique=True, max_size=5).map(lambda names: tuple(sorted(names)))
TABLES = st.dictionaries(NAMES, st.binary(max_size=70), max_size=5)
NUMBERS = st.integers(0, 2**63 - 1)
OF_TYPE = {
    str(int): NUMBERS,
    str(str): NAMES,
    str(bytes): st.binary(max_size=200),
    str(wire.Names): SORTED_NAMES,
    str(wire.Table): TABLES,
    str(wire.MembershipProof | None): st.none()
    | st.builds(
        wire.MembershipProof, NUMBERS, NUMBERS, st.binary(max_size=40), st.binary(max_size=70)
    ),
}
SEEDS = list(seeds())


def messages(kind: Any) -> st.SearchStrategy[Any]:
    parts = {name: OF_TYPE[str(f.type)] for name, f in kind.__dataclass_fields__.items()}
    return st.builds(kind, **parts)


PARTS = st.lists(st.one_of(NUMBERS, NAMES, st.binary(max_size=40)), max_size=12)
ANY_MESSAGE = st.sampled_from(KINDS).flatmap(messages)


def test_there_are_twelve_kinds() -> None:
    assert len(KINDS) == 12


@given(ANY_MESSAGE)
def test_what_is_encoded_is_decoded(message: Any) -> None:
    assert decode(encode(message), type(message)) == message


@given(ANY_MESSAGE, st.data())
def test_a_changed_message_is_refused_or_another_message(message: Any, data: st.DataObject) -> None:
    check_decoder(changed(message, data), type(message))


@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_any_bytes_are_refused_or_canonical(raw: bytes, kind: Any) -> None:
    check_decoder(raw, kind)


@settings(max_examples=200)
@given(PARTS, st.sampled_from(KINDS))
def test_any_parts_are_refused_or_canonical(parts: list[Any], kind: Any) -> None:
    check_decoder(bind(wire.VERSION, kind.__name__, *parts), kind)


@given(ANY_MESSAGE, st.data())
def test_a_truncated_message_is_refused(message: Any, data: st.DataObject) -> None:
    with pytest.raises(ProtocolError):
        decode(truncated(message, data), type(message))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10_000)
@given(st.data())
def test_a_kind_many_times(kind: Any, data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    assert decode(encode(message), kind) == message
    check_decoder(changed(message, data), kind)
    check_decoder(bind(wire.VERSION, kind.__name__, *data.draw(PARTS)), kind)
    with pytest.raises(ProtocolError):
        decode(truncated(message, data), kind)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=50)
@given(st.integers(0))
def test_what_was_changed_is_refused_or_canonical(name: str, seed: int) -> None:
    check_target(name, Random(seed))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=10_000)
@given(st.integers(0))
def test_a_target_many_times(name: str, seed: int) -> None:
    check_target(name, Random(seed))


def changed(message: Any, data: st.DataObject) -> bytes:
    raw = bytearray(encode(message))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(raw)


def truncated(message: Any, data: st.DataObject) -> bytes:
    raw = encode(message)
    return raw[: data.draw(st.integers(0, len(raw) - 1))]


def check_target(name: str, random: Random) -> None:
    """The target itself asserts what must hold."""
    seed = random.choice([raw for of, raw in SEEDS if of == name])
    TARGETS[name](Mutator(random, lambda raw: damaged(raw, random)).change(seed))


def damaged(raw: bytes, random: Random) -> bytes:
    """Replace up to five bytes, at the end too, by up to five others."""
    at = random.randint(0, len(raw))
    put = random.randbytes(random.randint(0, 5))
    return raw[:at] + put + raw[at + random.randint(0, 5) :]


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
        (bind(wire.VERSION, "SignRequest", 1, 0, 4, 2, b"", b""), "more after its end"),
        (bind(wire.VERSION, "SignRequest near", 1, 0), "ends early"),
        (bind(wire.VERSION, "SignRequest near", 1, 0, 4, 2, b""), "ends early"),
        (bind(wire.VERSION, "SignRequest near", 1, 0, 4, 2, b"", b"", 0), "more after its end"),
        (bind(wire.VERSION, "SignRequest near", 1, 0, b""), "bytes in place of a field"),
        (bind(wire.VERSION, "SignRequest near", 1, 0, 4, -1, b"", b""), "the number -1"),
        (bind(wire.VERSION, "SignRequest", -1, 0), "the number -1"),
        (bind(wire.VERSION, "SignRequest", "1", 0), "str in place of a field"),
        (bind(wire.VERSION, "SignRequest", 1, 2, "b", "a"), "sorted, distinct names"),
        (bind(wire.VERSION, "SignRequest", 1, 2, "a", "a"), "sorted, distinct names"),
        (bind(wire.VERSION, "SignRequest", 1, 10**12, "a"), "ends early"),
        (bind(wire.VERSION, "SignRequest", 10**30, 0), "a part of kind b'i' with 13 bytes"),
        (bind(wire.VERSION)[:-1] + b"\xff", "not UTF-8"),
        (b"s" + (2**63).to_bytes(8, "big"), "a part of 9223372036854775808 bytes"),
        (b"b" * 8, "a part of"),
        (bind(wire.VERSION, "SignRequest", 1, 1, "x" * 1025), "kind b's' with 1025 bytes"),
    ],
)
def test_malformed(raw: bytes, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        decode(raw, SignRequest)


def test_a_message_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 10)
    with pytest.raises(ProtocolError, match="expected at most 10"):
        decode(bytes(11), SignRequest)


@pytest.mark.parametrize("start", [bytes(2**20), "\0" * 2**20, "\U0001f600" + "\0" * 2**20])
def test_a_refusal_takes_about_as_much_memory_as_the_message(start: bytes | str) -> None:
    raw = bind(start)
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        decode(raw, SignRequest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(raw)


def test_a_state_shows_no_secret() -> None:
    client = ClientInstance(members(1)["s001"], 1)
    state = decode(client.to_bytes(), wire.ClientState)
    assert state.seed.hex() not in repr(state)
    assert str(state.seed) not in repr(state)
    assert str(state.masking) not in repr(state)


def test_a_membership_proof_is_the_end_of_a_message_or_nothing() -> None:
    membership_proof = wire.MembershipProof(4, 2, bytes(32), bytes(64))
    plain, sparse = SignRequest(1, ("a",)), SignRequest(1, ("a",), membership_proof)
    assert encode(plain) == bind(wire.VERSION, "SignRequest", 1, 1, "a")
    assert encode(sparse) == bind(
        wire.VERSION, "SignRequest near", 1, 1, "a", 4, 2, bytes(32), bytes(64)
    )
    with pytest.raises(ProtocolError, match="'SignReply near'; expected"):
        decode(bind(wire.VERSION, "SignReply near", bytes(64)), wire.SignReply)
    assert decode(encode(plain), SignRequest).membership_proof is None
    assert decode(encode(sparse), SignRequest).membership_proof == membership_proof


def test_what_goes_to_many_is_encoded_as_for_one() -> None:
    one, other = SignRequest(1, ("a",)), SignRequest(2, ("a",))
    raw = wire.encode_each({"a": one, "b": one, "c": other})
    assert raw == {"a": encode(one), "b": encode(one), "c": encode(other)}
    assert raw["a"] is raw["b"]


def test_shares_are_tables() -> None:
    assert decode(encode(UnmaskReply({"b": b"1"}, {})), UnmaskReply).seeds == {"b": b"1"}
    request = SharesRequest(3, 2, {"b": b"", "a": b"x"})
    assert tuple(decode(encode(request), SharesRequest).keys) == ("a", "b")


@pytest.mark.parametrize(
    ("altered", "match"),
    [
        ({"phase": 5}, "5 is not a valid Phase"),
        ({"bases": ("no hex",)}, "non-hexadecimal"),
        ({"bases": ("AB",)}, "does not hold together"),
        ({"sealing": b""}, "does not hold together"),
        ({"masking": b""}, "private key has 0 bytes"),
        ({"members": ("s001",)}, "does not hold together"),
        ({"transcript": b"told"}, "does not hold together"),
        ({"membership_proof": wire.MembershipProof(1, 0, bytes(32), b"")}, "not hold together"),
        ({"held": {"s001": b""}}, "sealed shares of 0 bytes"),
    ],
)
def test_a_state_that_no_client_stores(altered: dict[str, Any], match: str) -> None:
    member = members(1)["s001"]
    state = decode(ClientInstance(member, 1).to_bytes(), wire.ClientState)
    with pytest.raises(ProtocolError, match=match):
        ClientInstance.from_bytes(member, encode(replace(state, **altered)))


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"base": 1, "survivors": ["a"]}',
        b'{"base": "AA", "survivors": ["a"]}',
        b'{"base": "a model", "survivors": ["a"]}',
        b'{"base": "aa", "survivors": "a"}',
        b'{"base": "aa", "survivors": [1]}',
        b'{"base": "aa", "survivors": ["b", "a"]}',
        b'{"base": "aa", "survivors": ["a"], "more": 1}',
        b'{"base": "aa", "survivors": ["a"]}\r',
        b"",
    ],
)
def test_a_journal_that_no_site_writes(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "answered.jsonl"
    Journal(path).record([b"\xaa"], ["a"])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ProtocolError, match="line 2 cannot be read"):
        Journal(path)


@pytest.mark.parametrize("content", [b"", b"short", bytes(12), bytes(100)])
def test_a_stored_instance_that_is_too_short_or_altered(tmp_path: Path, content: bytes) -> None:
    vault = Vault(tmp_path, members(1)["s001"])
    vault.begin(1)
    (tmp_path / "instance-1.sealed").write_bytes(content)
    with pytest.raises(ProtocolError, match="was altered"):
        vault.load(1)


@pytest.mark.parametrize("content", [b"", b"one", b"\xff"])
def test_without_the_last_number_none_begins(tmp_path: Path, content: bytes) -> None:
    vault = Vault(tmp_path, members(1)["s001"])
    vault.begin(1)
    (tmp_path / "last").write_bytes(content)
    with pytest.raises(ProtocolError, match="holds no number"):
        vault.begin(2)
