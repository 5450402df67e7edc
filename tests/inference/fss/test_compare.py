from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from primia_flwr.errors import ConfigError, ProtocolError
from primia_flwr.inference.arithmetic.randomness import Stream
from primia_flwr.inference.fss import compare, digits
from primia_flwr.inference.fss.dealing import deal
from tests.inference.fss.comparisons import (
    SEEDS,
    always_right,
    computed,
    keys_of,
    larger,
    opened_bits,
)

SIZES = [8, 9, 16, 18, 19, 22, 25, 27, 28, 32, 33, 47, 63, 64]


def wanted(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


@pytest.mark.parametrize("bits", [8, 9])
def test_all_numbers_under_all_masks_of_small_rings(bits: int) -> None:
    half = 1 << (bits - 1)
    numbers, low = np.arange(-half, half), np.arange(2 * half, dtype=np.uint64)
    x = np.repeat(numbers, 2 * half)
    high = Stream(bytes(32), "r").uint64(x.size) << np.uint64(bits)
    found = larger(x, np.tile(low, 2 * half) | high, bits)
    sure = always_right(x, bits)
    assert sure.sum() == (2 * half - digits.guard(bits)) * 2 * half
    assert np.array_equal(found[sure], wanted(x)[sure])
    # Next to the lower edge a number is taken for 0 or for itself, by chance.
    edge = found[~sure]
    assert (edge == 0).any()
    assert ((edge == 0) | (edge == x[~sure])).all()


@pytest.mark.parametrize("bits", SIZES)
def test_extremes_of_the_numbers_and_of_the_masks(bits: int) -> None:
    half, guard = 1 << (bits - 1), digits.guard(bits)
    numbers = [half - 1, half - 2, guard, guard - 1, 1, 0, -1, -2, -guard, -half + guard]
    masks = {0, 1, 63, 64, 127, half - 1, half, half + 1, 2**63 - 1, 2**63, 2**64 - 1}
    masks |= {-x % 2**64 for x in numbers}  # the opened number is then 0
    pairs = list(product(numbers, sorted(masks)))
    x = np.array([x for x, _ in pairs], np.int64)
    r = np.array([r for _, r in pairs], np.uint64)
    assert np.array_equal(larger(x, r, bits), wanted(x))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_numbers_of_all_rings(data: st.DataObject) -> None:
    bits = data.draw(st.integers(8, 64))
    half, guard = 1 << (bits - 1), digits.guard(bits)
    near = st.integers(-3, 3).map(lambda v: v % 2**64)
    x = st.integers(-half + guard, half - 1) | st.integers(-3, 3)
    pair = st.tuples(x, st.integers(0, 2**64 - 1) | near)
    pairs = data.draw(st.lists(pair, min_size=1, max_size=40))
    numbers = np.array([x for x, _ in pairs], np.int64)
    r = np.array([r for _, r in pairs], np.uint64)
    assert np.array_equal(larger(numbers, r, bits), wanted(numbers))


@pytest.mark.parametrize("bits", [16, 22, 32, 64])
def test_many_random_numbers(bits: int) -> None:
    stream = Stream(bytes(32), "many", bits)
    x = stream.uint64(60_000).view(np.int64) >> (64 - bits)
    r, sure = stream.uint64(x.size), always_right(x, bits)
    assert np.array_equal(larger(x, r, bits)[sure], wanted(x)[sure])


def test_numbers_out_of_the_ring_are_as_the_digits_say() -> None:
    x = np.arange(-400, 400).repeat(16)
    r = Stream(bytes(32), "r").uint64(x.size)
    expected = [v * computed(v, int(m), 8) for v, m in zip(x.tolist(), r, strict=True)]
    assert larger(x, r, 8).tolist() == expected


@pytest.mark.parametrize("bits", [17, 30])
@pytest.mark.parametrize("count", [1, 7, 8, 9, (1 << 13) - 1, 1 << 13, (1 << 16) + 3])
def test_number_of_threads_changes_nothing(bits: int, count: int) -> None:
    stream = Stream(bytes(32), "threads", count)
    r, x = stream.uint64(count), stream.uint64(count).view(np.int64) >> 50
    one, several = (deal(r, bits, SEEDS, threads=t) for t in (1, 3))
    for party in (0, 1):
        assert b"".join(one.sent(party)) == b"".join(several.sent(party))
    assert np.array_equal(larger(x, r, bits, threads=3), wanted(x))


def test_what_is_opened_are_the_bits_of_the_digits_under_their_masks() -> None:
    stream = Stream(bytes(32), "bits")
    r, x = stream.uint64(5000), stream.uint64(5000).view(np.int64) >> 46
    keys, y = keys_of(r, 18), x.astype(np.uint64) + r
    y1, y2, y3 = digits.split(y, 18)
    r1, r2, r3 = digits.split(r, 18)
    ahead = (y1 - r1) % np.uint64(64)
    bits = [(ahead > 0) & (ahead <= 32), ahead == 0, r2 < y2, r2 == y2, r3 <= y3]
    masks = np.unpackbits(keys[0].masks ^ keys[1].masks, axis=1, count=5000, bitorder="little")
    assert np.array_equal(opened_bits(keys, y, 1) ^ masks, np.array(bits, np.uint8))


def test_other_seeds_give_other_words() -> None:
    r = np.zeros(50, np.uint64)
    dealings = [(SEEDS[0], SEEDS[1]), (SEEDS[1], SEEDS[0]), (SEEDS[0], bytes(32))]
    for bits in (22, 30):
        dealt = [deal(r, bits, seeds) for seeds in dealings]
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert not (dealt[i].pairs[0] == dealt[j].pairs[0]).all(axis=-1).any()
            # Party 1's pairs and party 0's tables are differences to the other party's seed.
            same = dealings[i][0] == dealings[j][0]
            assert (dealt[i].pairs[1] == dealt[j].pairs[1]).all(axis=-1).any() <= same
            assert not (dealt[i].tables == dealt[j].tables).any()


@pytest.mark.parametrize("bits", [12, 30])
def test_what_a_party_holds_is_uniform_and_of_one_length_for_any_mask(bits: int) -> None:
    count = 1 << 14
    lengths = set()
    for mask in (0, 2**64 - 1, 1 << 31):
        for keys in keys_of(np.full(count, mask, np.uint64), bits):
            held = [*keys.masks, *keys.tables, *np.concatenate(keys.pairs), keys.roots]
            held += [*keys.tree.corrections] if keys.tree else []
            for part in held:
                counts = np.bincount(part.reshape(-1).view(np.uint8), minlength=256)
                assert not counts.sum() or stats.chisquare(counts).pvalue > 1e-5
            lengths.add(sum(part.nbytes for part in held))
    assert len(lengths) == 1


@pytest.mark.parametrize("bits", [22, 32])
def test_what_is_opened_is_balanced_and_independent_for_any_number(bits: int) -> None:
    count = 1 << 14
    r = Stream(bytes(32), "r").uint64(count)
    for x in (0, -1, 2**20):
        keys, y = keys_of(r, bits), r + np.uint64(x % 2**64)
        opened = opened_bits(keys, y, 1)
        counts = np.bincount(np.packbits(opened, axis=0)[0] >> 3, minlength=32)
        assert stats.chisquare(counts).pvalue > 1e-5  # all 32 of five bits alike
        for one in keys:
            ones = np.unpackbits(compare.evaluate(one, y), axis=1).sum(axis=1, dtype=int)
            assert abs(ones - count / 2).max() < 5 * (count / 4) ** 0.5


R = np.arange(4, dtype=np.uint64)


@pytest.mark.parametrize("bits", [-1, 0, 7, 65])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"bits={bits} of a comparison; expected 8 to 64"):
        deal(R, bits, SEEDS)
    with pytest.raises(ConfigError, match=f"bits={bits}"):
        compare.expand(0, SEEDS[0], b"", bits, 4)


@pytest.mark.parametrize("wrong", [R.astype(np.int64), R.astype(np.uint32), R.reshape(2, 2)])
def test_masks_of_another_type_or_shape_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"r is .*; expected uint64 \(4,\)"):
        deal(wrong, 32, SEEDS)
    with pytest.raises(ConfigError, match=r"opened is .*; expected uint64 \(4,\)"):
        compare.evaluate(keys_of(R, 32)[0], wrong)


def test_no_comparison_is_refused() -> None:
    with pytest.raises(ConfigError, match="count=0 of comparisons; expected at least 1"):
        deal(R[:0], 32, SEEDS)


def test_seeds_that_are_equal_or_too_short_are_refused() -> None:
    with pytest.raises(ProtocolError, match="both parties have the same seed"):
        deal(R, 32, (SEEDS[0], SEEDS[0]))
    for seeds in ((SEEDS[0][:31], SEEDS[1]), (SEEDS[0], SEEDS[1][:31])):
        with pytest.raises(ProtocolError, match="has 31 bytes; expected 32"):
            deal(R, 32, seeds)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_is_refused(threads: int) -> None:
    keys = keys_of(R, 32)[0]
    for way in (
        lambda: deal(R, 32, SEEDS, threads=threads),
        lambda: compare.evaluate(keys, R, threads),
        lambda: compare.relu(keys, R, np.zeros((5, 4), np.uint8), R, threads),
    ):
        with pytest.raises(ConfigError, match=f"threads={threads} of comparisons"):
            way()
