import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError
from primia_flwr.primitives.keys import KeyPair, bind
from primia_flwr.secagg.protocol.sealing import open_sealed, seal

SECRET = bytes(range(32))
MESSAGE = b"two shares of thirty-two bytes each, and some more"


def sealed(message: bytes = MESSAGE) -> bytes:
    return seal(SECRET, message, sender="a", receiver="b", associated=b"instance 3")


def opened(
    data: bytes,
    secret: bytes = SECRET,
    sender: str = "a",
    receiver: str = "b",
    associated: bytes = b"instance 3",
) -> bytes:
    return open_sealed(secret, data, sender=sender, receiver=receiver, associated=associated)


@given(st.binary(max_size=200))
def test_what_is_sealed_opens(message: bytes) -> None:
    data = sealed(message)
    assert len(data) == len(message) + 32
    assert opened(data) == message


def test_opens_between_two_key_pairs() -> None:
    a, b = KeyPair.generate(), KeyPair.generate()
    data = seal(a.agree(b.public), MESSAGE, sender="a", receiver="b", associated=b"")
    assert opened(data, b.agree(a.public), associated=b"") == MESSAGE


def test_each_message_has_a_key_of_its_own() -> None:
    # zeros under one key and nonce would show the same key stream twice
    one, other = sealed(bytes(64)), sealed(bytes(64))
    assert one[:16] != other[:16]
    assert one[16:] != other[16:]


def test_construction_step_by_step() -> None:
    salt = bytes(range(16))
    context = bind("primia secagg v1 seal", "a", "b", b"instance 3")
    key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=context).derive(SECRET)
    expected = salt + ChaCha20Poly1305(key).encrypt(bytes(12), MESSAGE, context)
    made = seal(
        SECRET, MESSAGE, sender="a", receiver="b", associated=b"instance 3", rng=lambda n: salt[:n]
    )
    assert made == expected


def test_refuses_each_flipped_bit() -> None:
    data = sealed(b"short")
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError, match="does not open"):
            opened(bytes(altered))


def test_refuses_each_truncation_and_extensions() -> None:
    data = sealed()
    for cut in range(len(data)):
        with pytest.raises(ProtocolError, match="does not open"):
            opened(data[:cut])
    for longer in (data + b"\0", b"\0" + data, data + data):
        with pytest.raises(ProtocolError, match="does not open"):
            opened(longer)


@pytest.mark.parametrize(
    "other",
    [
        {"receiver": "c"},
        {"sender": "c"},
        {"sender": "b", "receiver": "a"},
        {"sender": "ab", "receiver": ""},
        {"associated": b"instance 4"},
        {"associated": b""},
        {"secret": bytes(32)},
    ],
)
def test_refuses_another_direction_context_or_secret(other: dict[str, str]) -> None:
    data = sealed()
    with pytest.raises(ProtocolError, match="does not open"):
        opened(data, **other)  # type: ignore[arg-type]


@given(st.binary(max_size=120))
def test_refuses_random_bytes(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="does not open"):
        opened(data)
