"""The audit's checks against plain integers, and its release of the scores."""

from __future__ import annotations

from hashlib import sha256
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic.randomness import Stream, fresh_seed
from primia_flwr.inference.correlation_spec import Compared, CorrelationSpec
from primia_flwr.inference.fss import compare
from primia_flwr.inference.overflow import check as audit
from primia_flwr.inference.overflow.check import Checks, Key, Ledger, Lock
from primia_flwr.inference.preprocessing.dealing import Selection, open_selection, part_bytes

SEED = bytes(range(32))
SIZES = [8, 9, 16, 31, 32, 33, 48, 63, 64]


def checked(x: np.ndarray, r: np.ndarray, s: np.ndarray, bits: int) -> list[np.ndarray]:
    """Both parties' residues of comparisons whose e is what the parties open; x: int64."""
    sent = audit.deal_checks(SEED, 3, r, s, bits)
    checks = Checks.own(SEED, 3, r.size), Checks.from_bytes(sent)
    share = Stream(SEED, "s").uint64(r.size)
    shares = share, s.astype(np.uint64) - share
    opened = x.astype(np.uint64) + r
    below = x.astype(np.uint64) >> np.uint64(bits - 1) & np.uint64(1)  # m(x)
    chosen = (s ^ 1 ^ below.astype(np.uint8)).view(np.bool_)
    return [audit.residues(p, bits, opened, chosen, shares[p], checks[p]) for p in (0, 1)]


def differences(pairs: list[tuple[int, int, int]], bits: int) -> list[int]:
    """T of each (x, r, s), modulo 2^(65 - bits), as the parties' residues give it."""
    x = np.array([x for x, _, _ in pairs], np.int64)
    r = np.array([r for _, r, _ in pairs], np.uint64)
    s = np.array([s for _, _, s in pairs], np.uint8)
    mine, theirs = checked(x, r, s, bits)
    return [int(t) % 2 ** (65 - bits) for t in mine - theirs]


def expected(x: int, bits: int) -> int:
    """T of one number by its definition: bits n-1 to 63, plus bit n-1."""
    word = x % 2**64
    return ((word >> (bits - 1)) + (word >> (bits - 1) & 1)) % 2 ** (65 - bits)


def inside(x: int, bits: int) -> bool:
    return -(2 ** (bits - 1)) <= x < 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [8, 9, 10])
def test_all_numbers_in_and_around_small_rings(bits: int) -> None:
    half = 1 << (bits - 1)
    numbers = [*range(-3 * half, 3 * half), *(sign * 2**62 for sign in (-1, 1))]
    numbers += [2**63 - 1 - i for i in range(4)] + [-(2**63) + i for i in range(4)]
    masks = [
        0,
        1,
        half - 1,
        half,
        2 * half - 1,
        2 * half,
        2**63 - 1,
        2**63,
        2**64 - half,
        2**64 - 1,
    ]
    cases = list(product(numbers, masks, (0, 1)))
    found = differences(cases, bits)
    assert found == [expected(x, bits) for x, _, _ in cases]
    assert [t == 0 for t in found] == [inside(x, bits) for x, _, _ in cases]


@pytest.mark.parametrize("bits", SIZES)
def test_the_edges_of_every_ring(bits: int) -> None:
    half = 1 << (bits - 1)
    edges = {sign * half + step for sign in (-1, 1) for step in range(-2, 3)}
    edges |= {0, 1, -1, 2**63 - 1, -(2**63), 2**48, -(2**48), 2 * half, -2 * half, 2 * half - 1}
    numbers = [x for x in sorted(edges) if -(2**63) <= x < 2**63]
    masks = {-x % 2**64 for x in numbers} | {0, half % 2**64, 2**63, 2**64 - 1}
    cases = list(product(numbers, sorted(masks), (0, 1)))
    assert [t == 0 for t in differences(cases, bits)] == [inside(x, bits) for x, _, _ in cases]


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_random_numbers_of_64_bits_under_random_masks(data: st.DataObject) -> None:
    bits = data.draw(st.integers(8, 64))
    half = 1 << (bits - 1)
    anywhere = st.integers(-(2**63), 2**63 - 1)
    near = st.sampled_from([half, -half]).flatmap(lambda v: st.integers(v - 3, v + 3))
    x = anywhere | near.filter(lambda v: -(2**63) <= v < 2**63)
    case = st.tuples(x, st.integers(0, 2**64 - 1), st.integers(0, 1))
    cases = data.draw(st.lists(case, min_size=1, max_size=40))
    found = differences(cases, bits)
    assert found == [expected(x, bits) for x, _, _ in cases]
    assert [t == 0 for t in found] == [inside(x, bits) for x, _, _ in cases]


def test_a_wrong_cut_is_outside_of_every_ring_of_up_to_48_bits() -> None:
    for bits in (8, 32, 48):
        half = 1 << (bits - 1)
        cases = [(x + off, 5, 1) for x in (-half, -1, 0, half - 1) for off in (2**48, -(2**48))]
        assert 0 not in differences(cases, bits)
    # A ring of 49 bits would miss this one.
    assert differences([(-(2**47) - 1 + 2**48, 5, 1)], 49) == [0]


NEEDS = CorrelationSpec((), (), (Compared(4096, 16), Compared(9, 32)), audit=True)


def selections(number: int) -> tuple[Selection, Selection]:
    from primia_flwr.inference.preprocessing.dealing import Dealer

    parts = list(Dealer(NEEDS, fresh_seed()).block())
    return tuple(  # type: ignore[return-value]
        open_selection(p, parts[0][p], NEEDS, number, parts[1 + number][p]) for p in (0, 1)
    )


@pytest.mark.parametrize("number", [0, 1])
def test_dealt_shares_add_up(number: int) -> None:
    bits = NEEDS.comparisons[number].bits
    one, other = selections(number)
    assert one.checks is not None
    assert other.checks is not None
    r, s = one.r + other.r, one.s + other.s
    assert ((one.checks.high + other.checks.high) == r >> np.uint64(bits - 1)).all()
    bit = r >> np.uint64(bits - 1) & np.uint64(1)
    assert ((one.checks.borrow + other.checks.borrow) == s ^ bit).all()


def test_what_each_party_holds_of_a_check_is_uniform() -> None:
    for selection in selections(0):
        assert selection.checks is not None
        for words in (selection.checks.high, selection.checks.borrow):
            counts = np.bincount(words.view(np.uint8), minlength=256)
            assert stats.chisquare(counts).pvalue > 1e-5


def test_checks_agree_with_the_comparison_as_it_is_evaluated() -> None:
    one, other = selections(0)
    x = Stream(SEED, "x").uint64(4096).view(np.int64) >> np.int64(46)  # 18 bits: 3 in 4 outside 16
    opened = x.astype(np.uint64) + one.r + other.r
    bits = compare.evaluate(one.keys, opened) ^ compare.evaluate(other.keys, opened)
    found = [
        audit.residues(p, 16, opened, bits.view(np.bool_), one_of.s, one_of.checks)  # type: ignore[arg-type]
        for p, one_of in enumerate((one, other))
    ]
    in_ring = (x >= -(2**15)) & (x < 2**15)
    assert ((found[0] == found[1]) == in_ring).all()
    assert 800 < in_ring.sum() < 1250


def test_bytes_of_a_block_by_hand() -> None:
    plain = CorrelationSpec(NEEDS.openings, NEEDS.products, NEEDS.comparisons)
    more = [sum(part_bytes(party, NEEDS)) - sum(part_bytes(party, plain)) for party in (0, 1)]
    assert more == [0, 16 * (4096 + 9) + 48]


def test_a_ledger_hashes_all_residues_in_order() -> None:
    x, r, s = np.array([5, -5]), np.array([1, 2], np.uint64), np.array([0, 1], np.uint8)
    mine, theirs = checked(x, r, s, 8)
    checks = Checks.own(SEED, 3, 2)
    share, opened = Stream(SEED, "s").uint64(2), x.astype(np.uint64) + r
    chosen = np.array([1, 1], np.bool_)  # e = s xor 1{x >= 0}
    ledger = Ledger(0)
    for _ in range(2):
        ledger.add(8, opened, chosen, share, checks)
    assert ledger.digest().tobytes() == sha256(mine.tobytes() * 2).digest()
    assert np.array_equal(mine, theirs)


def test_a_block_without_checks_is_refused() -> None:
    words = np.zeros(1, np.uint64)
    with pytest.raises(ProtocolError, match="a block was dealt without audit"):
        Ledger(0).add(8, words, np.zeros(1, np.bool_), words, None)


def released(mine: np.ndarray, theirs: np.ndarray) -> tuple[bytes | None, bytes, Key, Lock]:
    """What the data owner gets for two digests, and what the model owner masks with."""
    seeds = fresh_seed(), fresh_seed()
    key, lock = Key.open(seeds[0]), Lock.open(seeds[1], audit.deal_lock(seeds))
    tag, seed = lock.answer(key.ask(mine), theirs)
    return (key.seed if key.fits(tag) else None), seed, key, lock


def digest(text: str) -> np.ndarray:
    return np.frombuffer(sha256(text.encode()).digest(), np.uint64)


def test_equal_digests_open_the_lock() -> None:
    for number in range(50):
        found, seed, *_ = released(digest(str(number)), digest(str(number)))
        assert found == seed
        assert len(seed) == 32


def test_one_bit_of_difference_does_not() -> None:
    for bit in range(256):
        other = digest("a").copy()
        other[bit // 64] ^= np.uint64(1 << bit % 64)
        found, seed, key, _ = released(digest("a"), other)
        assert found is None
        assert seed != key.key.tobytes()[16:]


def test_the_answer_is_the_product_that_plain_integers_give() -> None:
    *_, key, lock = released(digest("a"), digest("b"))
    vector = int.from_bytes((digest("a") ^ digest("b")).tobytes(), "little")
    rows = [int.from_bytes(row.tobytes(), "little") for row in lock.rows]
    bits = sum(((row & vector).bit_count() & 1) << i for i, row in enumerate(rows))
    expected_key = bits ^ int.from_bytes(key.key.tobytes(), "little")
    tag, seed = lock.answer(key.ask(digest("a")), digest("b"))
    assert int.from_bytes(tag + seed, "little") == expected_key


def test_all_that_is_exchanged_is_uniform_whether_or_not_a_number_is_outside() -> None:
    for theirs in (digest("a"), digest("b")):
        asked, tags, masks = [], [], []
        for _ in range(600):
            seeds = fresh_seed(), fresh_seed()
            key, lock = Key.open(seeds[0]), Lock.open(seeds[1], audit.deal_lock(seeds))
            asked.append(key.ask(digest("a")).tobytes())
            tag, seed = lock.answer(np.frombuffer(asked[-1], np.uint64), theirs)
            tags.append(tag)
            masks.append(seed)
        for sample in (asked, tags, masks):
            counts = np.bincount(np.frombuffer(b"".join(sample), np.uint8), minlength=256)
            assert stats.chisquare(counts).pvalue > 1e-5


def test_a_number_outside_gives_a_key_that_has_nothing_to_do_with_the_data_owners() -> None:
    """k xor u = M (D_0 xor D_1) is uniform over the model owner's seeds, whatever the digests."""
    samples = []
    for _ in range(600):
        _, _, key, lock = released(digest("a"), digest("b"))
        tag, seed = lock.answer(key.ask(digest("a")), digest("b"))
        samples.append(np.frombuffer(tag + seed, np.uint64) ^ key.key)
    counts = np.bincount(np.concatenate(samples).view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-5


def test_masks_of_two_releases_differ() -> None:
    one, other = (audit.score_mask(fresh_seed(), 3) for _ in range(2))
    assert not (one == other).any()
    assert np.array_equal(audit.score_mask(SEED, 3), audit.score_mask(SEED, 3))
