import numpy as np
import pytest

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.fss import compare
from primia_flwr.inference.fss.dealing import deal
from primia_flwr.inference.fss.keys import CompareKeys, Sizes

SEEDS = bytes([1]) * 32, bytes([2]) * 32
COUNT = 11
R = np.arange(COUNT, dtype=np.uint64) * np.uint64(0x123456789ABCDEF)


def sent(party: int, bits: int) -> bytes:
    return b"".join(deal(R, bits, SEEDS).sent(party))


def held(keys: CompareKeys) -> list[bytes]:
    tree = [keys.tree.corrections.tobytes(), keys.tree.cipher_key] if keys.tree else []
    pairs = [pair.tobytes() for pair in keys.pairs]
    return [keys.masks.tobytes(), keys.tables.tobytes(), keys.roots.tobytes(), *pairs, *tree]


@pytest.mark.parametrize(
    ("bits", "tree", "table_words", "pairs"),
    [
        (8, 0, 3, (4, 6)),
        (22, 0, 4 + 2 + 2, (3, 7)),
        (27, 0, 8 + 8 + 8, (0, 10)),
        (32, 32 - 16 - 7 + 1, 4 + 4, (3, 7)),  # levels, and the leaf
        (64, 64 - 16 - 7 + 1, 4 + 4, (3, 7)),
    ],
)
def test_lengths_by_hand(bits: int, tree: int, table_words: int, pairs: tuple[int, int]) -> None:
    once = 16 * bool(tree)  # the key of the hash
    expected = [COUNT * (16 * tree + 16 * each) + once for each in pairs]
    expected[0] += COUNT * 8 * table_words
    assert [Sizes(bits, COUNT).sent_bytes(party) for party in (0, 1)] == expected
    assert [len(sent(party, bits)) for party in (0, 1)] == expected


@pytest.mark.parametrize("bits", [8, 22, 32, 64])
@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("shift", [0, 1, 8])
def test_sent_may_begin_anywhere(bits: int, party: int, shift: int) -> None:
    raw = sent(party, bits)
    expected = compare.expand(party, SEEDS[party], raw, bits, COUNT)
    buffer = bytearray(shift) + raw
    keys = compare.expand(party, SEEDS[party], memoryview(buffer)[shift:], bits, COUNT)
    assert (keys.party, keys.bits, keys.count) == (party, bits, COUNT)
    assert all(pair.flags.aligned for pair in keys.pairs)
    assert keys.tables.flags.aligned
    assert held(keys) == held(expected)


@pytest.mark.parametrize("bits", [20, 32])
def test_what_keys_take_in_memory_is_as_announced(bits: int) -> None:
    for party in (0, 1):
        keys = compare.expand(party, SEEDS[party], sent(party, bits), bits, COUNT)
        taken = sum(len(part) for part in held(keys))
        assert abs(taken - Sizes(bits, COUNT).held_bytes) <= 16


def test_aligned_keys_are_not_copied() -> None:
    buffer = bytearray(sent(0, 20))
    keys = compare.expand(0, SEEDS[0], buffer, 20, COUNT)
    assert np.shares_memory(keys.tables, np.frombuffer(buffer, np.uint8))


def test_keys_do_not_print_themselves() -> None:
    for bits in (8, 32):
        keys = compare.expand(0, SEEDS[0], sent(0, bits), bits, COUNT)
        assert "array" not in repr(keys) + repr(keys.tree) + repr(deal(R, bits, SEEDS))


@pytest.mark.parametrize("bits", [22, 32])
@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("change", [-16, -1, 1, 8])
def test_another_length_is_refused(bits: int, party: int, change: int) -> None:
    raw = sent(party, bits)
    wrong = raw[:change] if change < 0 else raw + bytes(change)
    with pytest.raises(ProtocolError, match=f"has {len(wrong)} bytes; expected {len(raw)}"):
        compare.expand(party, SEEDS[party], wrong, bits, COUNT)


def test_what_was_sent_to_the_other_party_is_refused() -> None:
    for party in (0, 1):
        with pytest.raises(ProtocolError, match="expected"):
            compare.expand(party, SEEDS[party], sent(1 - party, 27), 27, COUNT)


@pytest.mark.parametrize(
    ("party", "bits", "count", "message"),
    [(2, 32, 1, "party=2"), (-1, 32, 1, "party=-1"), (0, 7, 1, "bits=7"), (0, 65, 1, "bits=65"),
     (0, 32, 0, "count=0"), (0, 32, -1, "count=-1")],
)  # fmt: skip
def test_sizes_out_of_range_are_refused(party: int, bits: int, count: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sizes(bits, count).sent_bytes(party)
    with pytest.raises(ConfigError, match=message):
        compare.expand(party, SEEDS[0], b"", bits, count)


def test_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ProtocolError, match="has 16 bytes; expected 32"):
        compare.expand(0, bytes(16), sent(0, 32), 32, COUNT)
