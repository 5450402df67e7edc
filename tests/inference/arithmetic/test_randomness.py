import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.arithmetic.randomness import Stream, fresh_seed

SEED = bytes(range(32))
CHUNK = 1 << 16  # bytes that are enciphered at a time


def stream(seed: bytes, info: bytes, size: int) -> bytes:
    """The definition: AES-256-CTR from counter 0 under a key of HKDF-SHA256."""
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(seed)
    return Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(size))


def part(kind: bytes, content: bytes) -> bytes:
    """A part of a label: a letter for its type, its length and its content."""
    return kind + len(content).to_bytes(8, "big") + content


INFO = part(b"s", b"primia crypto v1 stream") + part(b"s", b"masks") + part(b"i", b"\x07")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_bytes_are_those_of_the_definition(size: int) -> None:
    assert Stream(SEED, "masks", 7).bytes(size) == stream(SEED, INFO, size)


def test_words_are_little_endian_and_have_the_shape() -> None:
    words = Stream(SEED, "masks", 7).uint64((2, 3))
    raw = stream(SEED, INFO, 48)
    expected = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, 48, 8)]
    assert words.dtype == np.uint64
    assert words.tolist() == [expected[:3], expected[3:]]
    assert Stream(SEED, "masks", 7).uint64(6).tolist() == expected
    assert Stream(SEED, "masks", 7).uint64(()).tolist() == expected[0]
    assert Stream(SEED, "masks", 7).uint64((0, 3)).shape == (0, 3)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100])
def test_bits_are_the_bytes_lowest_first(size: int) -> None:
    bits = Stream(SEED, "masks", 7).bits(size)
    raw = int.from_bytes(stream(SEED, INFO, 13), "little")
    assert bits.dtype == np.uint8
    assert bits.tolist() == [raw >> i & 1 for i in range(size)]


@given(st.lists(st.integers(0, 2 * CHUNK), max_size=5))
def test_calls_in_a_row_give_what_one_call_gives(sizes: list[int]) -> None:
    split = Stream(SEED, "masks")
    whole = Stream(SEED, "masks").bytes(sum(sizes))
    assert b"".join(split.bytes(size) for size in sizes) == whole


def test_words_bits_and_bytes_take_turns_on_one_stream() -> None:
    mixed, whole = Stream(SEED, "masks"), Stream(SEED, "masks").bytes(8 + 2 + 3)
    words, bits, rest = mixed.uint64(1), mixed.bits(9), mixed.bytes(3)
    assert words.astype("<u8").tobytes() == whole[:8]
    assert np.packbits(bits, bitorder="little").tobytes() == bytes([whole[8], whole[9] & 1])
    assert rest == whole[10:]


def test_another_label_or_seed_gives_another_stream() -> None:
    labels: list[tuple[str | int, ...]] = [
        (), ("a",), ("b",), ("a", "b"), ("ab",), ("a", 1), ("a", "1"), (1,), ("a", ""),
    ]  # fmt: skip
    streams = {Stream(SEED, *label).bytes(32) for label in labels}
    assert len(streams) == len(labels)
    assert Stream(bytes(32), "a").bytes(32) not in streams


def test_result_is_the_callers_own_and_writable() -> None:
    source = Stream(SEED, "masks")
    first = source.uint64(4)
    kept = first.copy()
    source.uint64(4)
    assert np.array_equal(first, kept)
    first += np.uint64(1)


def test_fresh_seeds_differ() -> None:
    seeds = {fresh_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert {len(seed) for seed in seeds} == {32}


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"has {length} bytes; expected 32"):
        Stream(bytes(length), "masks")


def test_negative_sizes_are_refused() -> None:
    source = Stream(SEED, "masks")
    for call in (source.bytes, source.bits, source.uint64):
        with pytest.raises(ConfigError):
            call(-8)
    with pytest.raises(ConfigError, match="no negative side"):
        source.uint64((-2, -2))
    assert source.bytes(16) == Stream(SEED, "masks").bytes(16)
