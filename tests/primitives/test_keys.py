import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import (
    InstanceKeys,
    KeyPair,
    Part,
    PublicKeys,
    bind,
    digest,
    sign,
    verify,
)

TEXT = st.text(st.characters(), max_size=8)  # lone surrogates included
PARTS = st.lists(st.binary(max_size=12) | TEXT | st.integers(), max_size=5)


# --- Binding ----------------------------------------------------------------------------


def unbind(encoded: bytes) -> list[Part]:
    parts: list[Part] = []
    while encoded:
        kind, length = encoded[:1], int.from_bytes(encoded[1:9], "big")
        content, encoded = encoded[9 : 9 + length], encoded[9 + length :]
        if kind == b"i":
            parts.append(int.from_bytes(content, "big", signed=True))
        else:
            parts.append(content if kind == b"b" else content.decode("utf-8", "surrogatepass"))
    return parts


@given(PARTS)
def test_bound_parts_can_be_told_apart_again(parts: list[Part]) -> None:
    again = unbind(bind(*parts))
    assert again == parts
    assert [type(part) for part in again] == [type(part) for part in parts]


@given(PARTS, PARTS)
def test_different_lists_give_different_bytes(one: list[Part], other: list[Part]) -> None:
    assert (bind(*one) == bind(*other)) == (one == other)


def test_bound_parts_by_hand() -> None:
    assert bind("é", b"\x01", -1, 128) == (
        b"s" + bytes(7) + b"\x02\xc3\xa9" + b"b" + bytes(7) + b"\x01\x01"
        b"i" + bytes(7) + b"\x01\xff" + b"i" + bytes(7) + b"\x02\x00\x80"
    )
    assert bind() == b""
    assert (
        len({bind("ab", "c"), bind("a", "bc"), bind("abc"), bind(b"ab", "c"), bind("abc", "")}) == 5
    )
    assert len({bind(1), bind("1"), bind(b"1"), bind(b"\x01")}) == 4


@pytest.mark.parametrize("part", [True, 1.0, None, ["a"], bytearray(b"a")])
def test_refuses_to_bind_other_types(part: Part) -> None:
    with pytest.raises(TypeError, match=f"{type(part).__name__} cannot be bound"):
        bind("a", part)


def test_digest_is_sha_256_of_the_bound_parts() -> None:
    assert digest() == hashlib.sha256(b"").digest()
    assert digest("abc") == hashlib.sha256(b"s\0\0\0\0\0\0\0\x03abc").digest()


# --- Signatures -------------------------------------------------------------------------


def test_a_signature_is_for_one_purpose_and_these_parts() -> None:
    identity = Ed25519PrivateKey.generate()
    public = identity.public_key()
    signature = sign(identity, "list", 7, "a")
    assert len(signature) == 64
    verify(public, signature, "list", 7, "a")
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    other = Ed25519PrivateKey.generate().public_key()
    for who, what, purpose, parts in [
        (public, signature, "keys", (7, "a")),
        (public, signature, "list", (8, "a")),
        (public, signature, "list", (7,)),
        (public, signature, "list", ("7", "a")),
        (public, flipped, "list", (7, "a")),
        (public, signature[:-1], "list", (7, "a")),
        (public, b"", "list", (7, "a")),
        (other, signature, "list", (7, "a")),
    ]:
        with pytest.raises(ProtocolError, match="does not verify"):
            verify(who, what, purpose, *parts)


# --- Agreement --------------------------------------------------------------------------


def test_two_pairs_agree_and_a_third_does_not() -> None:
    a, b, c = (KeyPair.generate() for _ in range(3))
    assert len(a.public) == 32
    assert len(a.agree(b.public)) == 32
    assert a.agree(b.public) == b.agree(a.public)
    assert a.agree(b.public) != a.agree(c.public)


def test_agreement_of_rfc_7748_section_5_2() -> None:
    scalar = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
    point = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
    secret = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert KeyPair.from_private(bytes.fromhex(scalar)).agree(bytes.fromhex(point)).hex() == secret


def test_a_pair_comes_back_from_its_private_key() -> None:
    pair = KeyPair.generate()
    again = KeyPair.from_private(pair.private_bytes())
    assert again.public == pair.public


def test_no_representation_shows_a_secret() -> None:
    keys = InstanceKeys.generate()
    for pair in (keys.sealing, keys.masking):
        assert pair.private_bytes().hex() not in repr(keys) + str(pair)
        assert pair.public.hex() in repr(keys)
        assert not hasattr(pair, "__dict__")


@pytest.mark.parametrize(
    "low_order",
    [
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    ],
)
def test_refuses_points_of_low_order(low_order: str) -> None:
    # the seven encodings below 2^255 of points of order 1, 2, 4 and 8 (curve and twist)
    with pytest.raises(ProtocolError, match="low order"):
        KeyPair.generate().agree(bytes.fromhex(low_order))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_refuses_keys_of_another_length(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"public key has {length} bytes; expected 32"):
        KeyPair.generate().agree(bytes(length))
    with pytest.raises(ProtocolError, match=f"private key has {length} bytes; expected 32"):
        KeyPair.from_private(bytes(length))


# --- Advertised keys --------------------------------------------------------------------


def test_advertised_keys_hold_for_one_run_instance_and_sender() -> None:
    identity = Ed25519PrivateKey.generate()
    public, other = identity.public_key(), Ed25519PrivateKey.generate().public_key()
    keys = InstanceKeys.generate().advertise(identity, run="r", instance=3, sender="a")
    keys.verify(public, run="r", instance=3, sender="a")
    swapped = PublicKeys(keys.masking, keys.sealing, keys.signature)
    changed = PublicKeys(KeyPair.generate().public, keys.masking, keys.signature)
    for who, what, run, instance, sender in [
        (public, keys, "s", 3, "a"),
        (public, keys, "r", 4, "a"),
        (public, keys, "r", 3, "b"),
        (other, keys, "r", 3, "a"),
        (public, swapped, "r", 3, "a"),
        (public, changed, "r", 3, "a"),
    ]:
        with pytest.raises(ProtocolError, match="does not verify"):
            what.verify(who, run=run, instance=instance, sender=sender)


def test_the_signature_covers_exactly_the_agreed_values() -> None:
    identity = Ed25519PrivateKey.generate()
    keys = InstanceKeys.generate().advertise(identity, run=9, instance=3, sender="a")
    verify(
        identity.public_key(), keys.signature,
        "primia secagg v1 keys", 9, 3, "a", keys.sealing, keys.masking,
    )  # fmt: skip


def test_refuses_advertised_keys_that_are_short_or_the_same() -> None:
    identity = Ed25519PrivateKey.generate()
    good = KeyPair.generate().public
    for keys, why in [
        (PublicKeys(good[:-1], good, b""), "has 31 bytes"),
        (PublicKeys(good, good + b"\0", b""), "has 33 bytes"),
        (PublicKeys(good, good, b""), "are the same"),
    ]:
        with pytest.raises(ProtocolError, match=why):
            keys.verify(identity.public_key(), run="r", instance=0, sender="a")
