import numpy as np
import pytest

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.fss import compare
from primia_flwr.inference.fss.keys import CompareKeys, key_bytes, sent_bytes

SEEDS = bytes([1]) * 32, bytes([2]) * 32
COUNT = 11
R = np.arange(COUNT, dtype=np.uint64) * np.uint64(0x123456789ABCDEF)
S = np.arange(COUNT, dtype=np.uint8) % np.uint8(2)


def sent(party: int, bits: int) -> bytes:
    return b"".join(compare.deal(R, S, bits, SEEDS).sent(party))


@pytest.mark.parametrize(
    ("bits", "words"),
    [(8, 1), (9, 2), (16, 9), (32, 25), (64, 57)],  # bits - 1 - 7 levels and the leaf
)
def test_lengths_by_hand(bits: int, words: int) -> None:
    # 8 comparisons: 16 bytes a word, 16 of the hash's key, 1 of the bits, 16 a root
    assert sent_bytes(0, bits, 8) == 8 * 16 * words + 16
    assert sent_bytes(1, bits, 8) == 8 * 16 * words + 16 + 1
    assert key_bytes(bits, 8) == 8 * 16 * words + 16 + 1 + 8 * 16
    assert sent_bytes(1, bits, 9) - sent_bytes(0, bits, 9) == 2
    for party in (0, 1):
        assert len(sent(party, bits)) == sent_bytes(party, bits, COUNT)


def stored(keys: CompareKeys) -> bytes:
    """Return the bytes that a party stores."""
    return keys.roots.tobytes() + b"".join(keys.dealt.sent(1))


@pytest.mark.parametrize("bits", [8, 32, 64])
@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("shift", [0, 1, 8])
def test_stored_keys_are_the_same_wherever_they_begin(bits: int, party: int, shift: int) -> None:
    keys = compare.expand(party, SEEDS[party], sent(party, bits), bits, COUNT)
    raw = stored(keys)
    assert len(raw) == key_bytes(bits, COUNT)
    buffer = bytearray(shift) + raw
    again = CompareKeys.from_bytes(party, memoryview(buffer)[shift:], bits, COUNT)
    assert (again.party, again.bits, again.count) == (party, bits, COUNT)
    assert again.roots.flags.aligned
    assert again.dealt.corrections.flags.aligned
    assert stored(again) == raw
    assert np.array_equal(compare.evaluate(again, R), compare.evaluate(keys, R))


@pytest.mark.parametrize("shift", [1, 8])
def test_sent_may_begin_anywhere(shift: int) -> None:
    expected = compare.expand(1, SEEDS[1], sent(1, 20), 20, COUNT)
    buffer = bytearray(shift) + sent(1, 20)
    keys = compare.expand(1, SEEDS[1], memoryview(buffer)[shift:], 20, COUNT)
    assert stored(keys) == stored(expected)


def test_aligned_keys_are_not_copied() -> None:
    buffer = bytearray(sent(1, 20))
    keys = compare.expand(1, SEEDS[1], buffer, 20, COUNT)
    assert np.shares_memory(keys.dealt.corrections, np.frombuffer(buffer, np.uint8))


def test_keys_do_not_print_themselves() -> None:
    keys = compare.expand(0, SEEDS[0], sent(0, 8), 8, COUNT)
    assert "array" not in repr(keys)
    assert "array" not in repr(keys.dealt)


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("change", [-16, -1, 1, 8])
def test_another_length_is_refused(party: int, change: int) -> None:
    raw = sent(party, 32)
    wrong = raw[:change] if change < 0 else raw + bytes(change)
    with pytest.raises(ProtocolError, match=f"has {len(wrong)} bytes; expected {len(raw)}"):
        compare.expand(party, SEEDS[party], wrong, 32, COUNT)
    keys = stored(compare.expand(party, SEEDS[party], raw, 32, COUNT))
    wrong = keys[:change] if change < 0 else keys + bytes(change)
    with pytest.raises(ProtocolError, match=f"have {len(wrong)} bytes; expected {len(keys)}"):
        CompareKeys.from_bytes(party, wrong, 32, COUNT)


def test_what_was_sent_to_the_other_party_is_refused() -> None:
    for party in (0, 1):
        with pytest.raises(ProtocolError, match="expected"):
            compare.expand(party, SEEDS[party], sent(1 - party, 32), 32, COUNT)


@pytest.mark.parametrize(
    ("party", "bits", "count", "message"),
    [(2, 32, 1, "party=2"), (-1, 32, 1, "party=-1"), (0, 7, 1, "bits=7"), (0, 65, 1, "bits=65"),
     (0, 32, 0, "count=0"), (0, 32, -1, "count=-1")],
)  # fmt: skip
def test_sizes_out_of_range_are_refused(party: int, bits: int, count: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sent_bytes(party, bits, count)
    with pytest.raises(ConfigError, match=message):
        compare.expand(party, SEEDS[0], b"", bits, count)
    with pytest.raises(ConfigError, match=message):
        CompareKeys.from_bytes(party, b"", bits, count)


def test_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ProtocolError, match="has 16 bytes; expected 32"):
        compare.expand(0, bytes(16), sent(0, 32), 32, COUNT)
