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
from primia_flwr.inference.fss import compare, digits
from primia_flwr.inference.overflow import check as audit
from primia_flwr.inference.overflow.check import Checks, Key, Ledger, Lock
from primia_flwr.inference.preprocessing.dealing import Selection, open_selection, part_bytes
from tests.inference.fss.comparisons import computed

SEED = bytes(range(32))
SIZES = [8, 9, 16, 31, 32, 33, 48, 63, 64]


def checked(x: np.ndarray, r: np.ndarray, s: np.ndarray, bits: int) -> list[np.ndarray]:
    """Both parties' residues of comparisons whose a is what the parties open; x: int64."""
    sent = audit.deal_checks(SEED, 3, r, s, bits)
    checks = Checks.own(SEED, 3, r.size), Checks.from_bytes(sent)
    share = Stream(SEED, "s").uint64(r.size)
    shares = share, s.astype(np.uint64) - share
    opened = x.astype(np.uint64) + r
    half = np.uint64(1 << (digits.widths(bits)[0] - 1))
    ahead = (digits.split(opened, bits)[0] - digits.split(r, bits)[0]) % (half + half)
    inside = ((ahead > 0) & (ahead <= half)).astype(np.uint8) ^ s
    return [audit.residues(p, bits, opened, inside, shares[p], checks[p]) for p in (0, 1)]


def differences(pairs: list[tuple[int, int, int]], bits: int) -> list[int]:
    """T of each (x, r, s), modulo 2^(64 - bits), as the parties' residues give it."""
    x = np.array([x for x, _, _ in pairs], np.int64)
    r = np.array([r for _, r, _ in pairs], np.uint64)
    s = np.array([s for _, _, s in pairs], np.uint8)
    mine, theirs = checked(x, r, s, bits)
    return [int(t) % 2 ** (64 - bits) for t in mine - theirs]


def expected(x: int, r: int, bits: int) -> int:
    """T of one number by its definition: bits n to 63, plus 1 if it is taken for negative."""
    return ((x % 2**64 >> bits) + 1 - computed(x, r, bits)) % 2 ** (64 - bits)


def right(x: int, r: int, bits: int) -> bool:
    """Whether a comparison came out right, of a number that the next larger ring has."""
    return -(2**bits) <= x < 2**bits and computed(x, r, bits) == (x >= 0)


def agrees(cases: list[tuple[int, int, int]], bits: int) -> None:
    """Demand T of all, that it is 0 in the ring, and beyond it only next to its upper edge."""
    found, half = differences(cases, bits), 1 << (bits - 1)
    guard = digits.guard(bits)
    assert found == [expected(x, r, bits) for x, r, _ in cases]
    if bits < 64:  # 64 bits have no outside
        assert [t == 0 for t in found] == [right(x, r, bits) for x, r, _ in cases]
        passed = {x for t, (x, _, _) in zip(found, cases, strict=True) if t == 0}
        assert all(-half <= x < half + guard for x in passed)
    assert passed_at(found, cases) >= {x for x, *_ in cases if -half + guard <= x < half}


def passed_at(found: list[int], cases: list[tuple[int, int, int]]) -> set[int]:
    """Return the numbers that passed in all of their cases."""
    failed = {x for t, (x, _, _) in zip(found, cases, strict=True) if t}
    return {x for x, _, _ in cases} - failed


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
    agrees(cases, bits)


@pytest.mark.parametrize("bits", SIZES)
def test_the_edges_of_every_ring(bits: int) -> None:
    half = 1 << (bits - 1)
    edges = {sign * half + step for sign in (-1, 1) for step in range(-2, 3)}
    edges |= {0, 1, -1, 2**63 - 1, -(2**63), 2**48, -(2**48), 2 * half, -2 * half, 2 * half - 1}
    numbers = [x for x in sorted(edges) if -(2**63) <= x < 2**63]
    masks = {-x % 2**64 for x in numbers} | {0, half % 2**64, 2**63, 2**64 - 1}
    cases = list(product(numbers, sorted(masks), (0, 1)))
    agrees(cases, bits)


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
    agrees(cases, bits)


def test_a_wrong_cut_is_outside_of_every_ring_of_up_to_47_bits() -> None:
    for bits in (8, 32, 47):
        half = 1 << (bits - 1)
        cases = [(x + off, 5, 1) for x in (-half, -1, 0, half - 1) for off in (2**48, -(2**48))]
        assert 0 not in differences(cases, bits)
    # A ring of 48 bits would miss this one.
    assert differences([(-(2**47) + 2**48, 5, 1)], 48) == [0]


def test_next_to_the_edges_chance_decides_and_is_right() -> None:
    guard, masks = digits.guard(16), Stream(SEED, "masks").uint64(4000).tolist()
    for edge in (-(2**15) + guard // 2, 2**15 + guard // 2):
        found = differences([(edge, r, r & 1) for r in masks], 16)
        assert 1500 < found.count(0) < 2500


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
    r, sa = one.r + other.r, one.keys.pairs[0][0] + other.keys.pairs[0][0]
    high, bit = r >> np.uint64(bits), r >> np.uint64(bits - 1) & np.uint64(1)
    assert ((one.checks.equal + other.checks.equal) == high + bit * sa).all()
    assert ((one.checks.other + other.checks.other) == high + bit * (1 - sa)).all()


def test_what_each_party_holds_of_a_check_is_uniform() -> None:
    for selection in selections(0):
        assert selection.checks is not None
        for words in (selection.checks.equal, selection.checks.other):
            counts = np.bincount(words.view(np.uint8), minlength=256)
            assert stats.chisquare(counts).pvalue > 1e-5


def test_checks_agree_with_the_comparison_as_it_is_evaluated() -> None:
    one, other = selections(0)
    x = Stream(SEED, "x").uint64(4096).view(np.int64) >> np.int64(46)  # 18 bits: 3 in 4 outside 16
    opened = x.astype(np.uint64) + one.r + other.r
    both = [compare.evaluate(each.keys, opened) for each in (one, other)]
    bits = np.unpackbits(both[0] ^ both[1], axis=1, count=4096, bitorder="little")
    found = [
        audit.residues(p, 16, opened, bits[0], each.keys.pairs[0][0], each.checks)  # type: ignore[arg-type]
        for p, each in enumerate((one, other))
    ]
    zeros = np.zeros_like(opened)
    shares = [
        compare.relu(one.keys, opened, bits, x.view(np.uint64)),
        compare.relu(other.keys, opened, bits, zeros),
    ]
    came_out = (shares[0] + shares[1]).view(np.int64) == np.maximum(x, 0)
    assert ((found[0] == found[1]) == (came_out & (x >= -(2**16)) & (x < 2**16))).all()
    assert 800 < (found[0] == found[1]).sum() < 1250


def test_bytes_of_a_block_by_hand() -> None:
    plain = CorrelationSpec(NEEDS.openings, NEEDS.products, NEEDS.comparisons)
    more = [sum(part_bytes(party, NEEDS)) - sum(part_bytes(party, plain)) for party in (0, 1)]
    assert more == [0, 16 * (4096 + 9) + 48]


def test_a_ledger_hashes_all_residues_in_order() -> None:
    x, r, s = np.array([5, -5]), np.array([1, 2], np.uint64), np.array([0, 1], np.uint8)
    mine, theirs = checked(x, r, s, 8)
    checks = Checks.own(SEED, 3, 2)
    share, opened = Stream(SEED, "s").uint64(2), x.astype(np.uint64) + r
    inside = np.array([1, 1], np.uint8)  # a = s xor 1{0 < d <= 32}: 0 < 5 // 4, and -5 is not
    ledger = Ledger(0)
    for _ in range(2):
        ledger.add(8, opened, inside, share, checks)
    assert ledger.digest().tobytes() == sha256(mine.tobytes() * 2).digest()
    assert np.array_equal(mine, theirs)


def test_a_block_without_checks_is_refused() -> None:
    words = np.zeros(1, np.uint64)
    with pytest.raises(ProtocolError, match="a block was dealt without audit"):
        Ledger(0).add(8, words, np.zeros(1, np.uint8), words, None)


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
