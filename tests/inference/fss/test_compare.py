from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss import compare, dpf

SEEDS = bytes([1]) * 32, bytes([2]) * 32
SIZES = [8, 9, 14, 15, 16, 31, 32, 33, 63, 64]


def keys_of(
    r: np.ndarray, s: np.ndarray, bits: int, seeds: tuple[bytes, bytes] = SEEDS
) -> list[compare.CompareKeys]:
    dealt = compare.deal(r, s, bits, seeds)
    sent = [b"".join(dealt.sent(party)) for party in (0, 1)]
    return [compare.expand(p, seeds[p], sent[p], bits, r.size) for p in (0, 1)]


def signs(x: np.ndarray, r: np.ndarray, bits: int, threads: int = 1) -> np.ndarray:
    """1{x >= 0} as both parties find it; x: int64."""
    s = Stream(bytes(32), "s").bits(r.size)
    opened = x.astype(np.uint64) + r
    shares = [compare.evaluate(keys, opened, threads) for keys in keys_of(r, s, bits)]
    assert all(share.dtype == np.uint8 for share in shares)
    return shares[0] ^ shares[1] ^ s


@pytest.mark.parametrize("bits", [8, 9, 10])
def test_all_numbers_under_all_masks_of_small_rings(bits: int) -> None:
    half = 1 << (bits - 1)
    numbers, alphas = np.arange(-half, half), np.arange(half, dtype=np.uint64)
    x = np.repeat(numbers, half)
    high = Stream(bytes(32), "r").uint64(x.size) << np.uint64(bits - 1)
    r = np.tile(alphas, 2 * half) | high
    assert np.array_equal(signs(x, r, bits), x >= 0)


@pytest.mark.parametrize("bits", SIZES)
def test_extremes_of_the_numbers_and_of_the_masks(bits: int) -> None:
    half = 1 << (bits - 1)
    numbers = [half - 1, half - 2, 1, 0, -1, -2, -half + 1, -half]
    masks = {0, 1, 63, 64, 127, half - 1, half, half + 1, 2**63 - 1, 2**63, 2**64 - 1}
    masks |= {-x % 2**64 for x in numbers}  # the opened number is then 0
    pairs = list(product(numbers, sorted(masks)))
    x = np.array([x for x, _ in pairs], np.int64)
    r = np.array([r for _, r in pairs], np.uint64)
    assert signs(x, r, bits).tolist() == [int(x >= 0) for x, _ in pairs]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_numbers_of_all_rings(data: st.DataObject) -> None:
    bits = data.draw(st.integers(8, 64))
    half = 1 << (bits - 1)
    near = st.integers(-3, 3).map(lambda v: v % 2**64)
    pair = st.tuples(st.integers(-half, half - 1), st.integers(0, 2**64 - 1) | near)
    pairs = data.draw(st.lists(pair, min_size=1, max_size=40))
    x = np.array([x for x, _ in pairs], np.int64)
    r = np.array([r for _, r in pairs], np.uint64)
    assert np.array_equal(signs(x, r, bits), x >= 0)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_many_random_numbers(bits: int) -> None:
    stream = Stream(bytes(32), "many", bits)
    x = stream.uint64(60_000).view(np.int64) >> (64 - bits)
    assert np.array_equal(signs(x, stream.uint64(x.size), bits), x >= 0)


@pytest.mark.parametrize("count", [1, 7, 8, 9, dpf.CHUNK - 1, dpf.CHUNK, 2 * dpf.CHUNK + 3])
def test_number_of_threads_changes_nothing(count: int) -> None:
    stream = Stream(bytes(32), "threads", count)
    r, x, s = stream.uint64(count), stream.uint64(count).view(np.int64) >> 48, stream.bits(count)
    opened = x.astype(np.uint64) + r
    first, second = (compare.deal(r, s, 17, SEEDS, threads=t) for t in (1, 3))
    assert b"".join(first.sent(1)) == b"".join(second.sent(1))
    one, two = keys_of(r, s, 17)
    shares = compare.evaluate(one, opened, threads=3)
    assert np.array_equal(shares, compare.evaluate(one, opened))
    assert np.array_equal(shares ^ compare.evaluate(two, opened, threads=2) ^ s, x >= 0)


def test_a_number_out_of_the_ring_is_taken_modulo_it() -> None:
    x = np.array([128, -129, 255, 256])
    assert signs(x, np.array([7, 7, 7, 7], np.uint64), 8).tolist() == [0, 1, 0, 1]


def test_both_parties_hold_correction_words_and_party_1_its_bits() -> None:
    r, s = Stream(bytes(32), "r").uint64(100), Stream(bytes(32), "s").bits(100)
    dealt = compare.deal(r, s, 32, SEEDS)
    sent = [b"".join(dealt.sent(party)) for party in (0, 1)]
    assert sent[1][: len(sent[0])] == sent[0]
    one, two = keys_of(r, s, 32)
    bits = np.unpackbits(one.dealt.shares ^ two.dealt.shares, count=100, bitorder="little")
    assert np.array_equal(bits, (r >> np.uint64(31) & np.uint64(1)).astype(np.uint8) ^ s)
    assert not np.array_equal(one.roots, two.roots)


def test_other_seeds_give_other_words() -> None:
    r, s = np.zeros(50, np.uint64), np.zeros(50, np.uint8)
    dealings = [(SEEDS[0], SEEDS[1]), (SEEDS[1], SEEDS[0]), (SEEDS[0], bytes(32))]
    dealt = [compare.deal(r, s, 9, seeds) for seeds in dealings]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not (dealt[i].corrections == dealt[j].corrections).any()
    assert dealt[0].cipher_key == dealt[2].cipher_key != dealt[1].cipher_key


def test_what_a_party_holds_is_uniform_and_of_one_length_for_any_mask() -> None:
    count = 1 << 14
    lengths = set()
    for mask, bit in ((0, 0), (2**64 - 1, 1), (1 << 31, 0)):
        r, s = np.full(count, mask, np.uint64), np.full(count, bit, np.uint8)
        for keys in keys_of(r, s, 12):
            held = [keys.roots, *keys.dealt.corrections, keys.dealt.shares]
            for part in held:
                counts = np.bincount(part.reshape(-1).view(np.uint8), minlength=256)
                assert stats.chisquare(counts).pvalue > 1e-4
            lengths.add(sum(part.nbytes for part in held))
    assert len(lengths) == 1


def test_result_of_one_party_is_balanced_for_any_number() -> None:
    count = 1 << 14
    r, s = Stream(bytes(32), "r").uint64(count), Stream(bytes(32), "s").bits(count)
    for x in (0, -1, 2**31 - 1):
        for keys in keys_of(r, s, 32):
            ones = int(compare.evaluate(keys, r + np.uint64(x % 2**64)).sum())
            assert abs(ones - count / 2) < 5 * (count / 4) ** 0.5


R, S = np.arange(4, dtype=np.uint64), np.zeros(4, np.uint8)


@pytest.mark.parametrize("bits", [-1, 0, 7, 65])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"bits={bits} of a comparison; expected 8 to 64"):
        compare.deal(R, S, bits, SEEDS)
    with pytest.raises(ConfigError, match=f"bits={bits}"):
        compare.expand(0, SEEDS[0], b"", bits, 4)


@pytest.mark.parametrize("wrong", [R.astype(np.int64), R.astype(np.uint32), R.reshape(2, 2)])
def test_masks_of_another_type_or_shape_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"r is .*; expected uint64 \(4,\)"):
        compare.deal(wrong, S, 32, SEEDS)
    with pytest.raises(ConfigError, match=r"opened is .*; expected uint64 \(4,\)"):
        compare.evaluate(keys_of(R, S, 32)[0], wrong)


@pytest.mark.parametrize("wrong", [S[:3], S.astype(bool), S.astype(np.int64), S.reshape(2, 2)])
def test_result_masks_of_another_type_or_shape_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"s is .*; expected uint8 \(4,\)"):
        compare.deal(R, wrong, 32, SEEDS)


def test_no_comparison_and_masks_that_are_no_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="count=0 of comparisons; expected at least 1"):
        compare.deal(R[:0], S[:0], 32, SEEDS)
    with pytest.raises(ConfigError, match="s has an entry 2; expected 0 and 1 only"):
        compare.deal(R, S + np.uint8(2), 32, SEEDS)


def test_seeds_that_are_equal_or_too_short_are_refused() -> None:
    with pytest.raises(ProtocolError, match="both parties have the same seed"):
        compare.deal(R, S, 32, (SEEDS[0], SEEDS[0]))
    for seeds in ((SEEDS[0][:31], SEEDS[1]), (SEEDS[0], SEEDS[1][:31])):
        with pytest.raises(ProtocolError, match="has 31 bytes; expected 32"):
            compare.deal(R, S, 32, seeds)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_is_refused(threads: int) -> None:
    with pytest.raises(ConfigError, match=f"threads={threads} of comparisons"):
        compare.deal(R, S, 32, SEEDS, threads=threads)
    with pytest.raises(ConfigError, match=f"threads={threads} of comparisons"):
        compare.evaluate(keys_of(R, S, 32)[0], R, threads)
