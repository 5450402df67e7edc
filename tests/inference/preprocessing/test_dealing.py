from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.arithmetic.randomness import fresh_seed
from primia_flwr.inference.correlation_spec import Compared, CorrelationSpec, Product
from primia_flwr.inference.fss import digits
from primia_flwr.inference.plan import Geometry
from primia_flwr.inference.preprocessing import dealing
from primia_flwr.inference.preprocessing.dealing import (
    Dealer,
    open_bytes,
    open_product,
    open_selection,
    opening_mask,
    part_bytes,
    tensor,
    weight_masks,
)
from primia_flwr.inference.preprocessing.prepared import masked_products, prepare

NEEDS = CorrelationSpec(
    openings=((1, 2, 4, 4), (1, 3)),
    products=(
        Product(0, (3, 2, 3, 3), (1, 3, 4, 4), Geometry(padding=(1, 1))),
        Product(1, (2, 3), (1, 2), None),
    ),
    comparisons=(Compared(5, 16), Compared(3, 32)),
)


def dealt() -> tuple[bytes, list[bytes], list[bytes]]:
    seed = fresh_seed()
    parts = [(bytes(a), bytes(b)) for a, b in Dealer(NEEDS, seed).block()]
    return seed, [a for a, _ in parts], [b for _, b in parts]


def test_lengths_are_as_announced() -> None:
    _, mine, theirs = dealt()
    assert [len(part) for part in mine] == part_bytes(0, NEEDS)
    assert [len(part) for part in theirs] == part_bytes(1, NEEDS)
    # The data owner is sent no product; the model owner 8 bytes an entry.
    assert part_bytes(0, NEEDS)[1:3] == [0, 0]
    assert part_bytes(1, NEEDS)[1:3] == [8 * 48, 8 * 2]


def test_products_of_masks_add_up() -> None:
    seed, mine, theirs = dealt()
    for number, (product, mask) in enumerate(
        zip(NEEDS.products, weight_masks(NEEDS, seed), strict=True)
    ):
        shares = [
            open_product(party, parts[0], NEEDS, number, parts[1 + number])
            for party, parts in enumerate((mine, theirs))
        ]
        a = tensor(opening_mask(mine[0], product.opening, NEEDS.openings[product.opening]))
        assert torch.equal(shares[0] + shares[1], ring.product(a, mask, product.geometry))


@pytest.mark.parametrize("number", [0, 1])
def test_selections_add_up(number: int) -> None:
    _, mine, theirs = dealt()
    one, other = (
        open_selection(party, parts[0], NEEDS, number, parts[3 + number])
        for party, parts in enumerate((mine, theirs))
    )
    r, bits = one.r + other.r, NEEDS.comparisons[number].bits
    masks = one.keys.masks ^ other.keys.masks
    sa, se = np.unpackbits(masks, axis=1, count=r.size, bitorder="little")[:2]
    pairs = [a + b for a, b in zip(one.keys.pairs, other.keys.pairs, strict=True)]
    assert all(set(bit.tolist()) <= {0, 1} for bit, _ in pairs)
    assert all((product == bit * r).all() for bit, product in pairs)
    assert (pairs[0][0] == sa).all()
    assert (pairs[1][0] == se).all()
    top = digits.split(r, bits)[0]
    marked = (one.keys.tables ^ other.keys.tables)[digits.rows(bits)[0]]
    assert [int(word) for word in marked.T[:, 0]] == [
        1 << value if value < 64 else 0 for value in top.tolist()
    ]


def test_every_block_has_other_masks() -> None:
    dealer = Dealer(NEEDS, fresh_seed())
    first, second = list(dealer.block()), list(dealer.block())
    for one, other in zip(first, second, strict=True):
        for party in range(2):
            assert not len(one[party]) or bytes(one[party]) != bytes(other[party])


def test_the_data_owners_share_of_a_product_needs_no_image() -> None:
    seed, mine, theirs = dealt()
    weights = [torch.full(p.weight_shape, 7) for p in NEEDS.products]
    masked = [w - b for w, b in zip(weights, weight_masks(NEEDS, seed), strict=True)]
    shares = list(masked_products(NEEDS, mine[0], masked))
    for number, product in enumerate(NEEDS.products):
        a = tensor(opening_mask(mine[0], product.opening, NEEDS.openings[product.opening]))
        other = open_product(1, theirs[0], NEEDS, number, theirs[1 + number])
        # A F + C_0 + C_1 = A (F + B) = A W
        expected = ring.product(a, weights[number], product.geometry)
        assert torch.equal(shares[number] + other, expected)


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("cut", [-1, 1])
def test_parts_of_another_length_are_refused(party: int, cut: int) -> None:
    _, *halves = dealt()
    parts = halves[party]
    parts[-1] = parts[-1][:cut] if cut < 0 else parts[-1] + b"x"
    with pytest.raises(ProtocolError, match="comparison 1 of a block has"):
        prepare(party, NEEDS, parts, [torch.zeros(1)] * 2)


@pytest.mark.parametrize("party", [0, 1])
def test_an_audited_block_has_a_part_more_of_the_announced_length(party: int) -> None:
    spec = replace(NEEDS, audit=True)
    parts = [bytes(pair[party]) for pair in Dealer(spec, fresh_seed()).block()]
    assert [len(part) for part in parts] == part_bytes(party, spec)
    assert len(parts) == len(part_bytes(party, NEEDS)) + 1
    products = [torch.zeros(1)] * 2
    assert prepare(party, spec, parts, products).release is not None
    assert prepare(party, NEEDS, dealt()[1 + party], products).release is None
    with pytest.raises(ProtocolError, match="release 0 of a block has"):
        prepare(party, spec, [*parts[:-1], parts[-1] + b"x"], products)
    with pytest.raises(ProtocolError, match="a block of 5 parts"):
        prepare(party, spec, parts[:-1], products)
    with pytest.raises(ProtocolError, match="a block of 6 parts"):
        prepare(party, NEEDS, parts, products)


def test_a_block_with_a_part_too_few_is_refused() -> None:
    _, mine, _ = dealt()
    with pytest.raises(ProtocolError, match="a block of 4 parts"):
        prepare(0, NEEDS, mine[:-1])


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("bits", [16, 30])
def test_what_each_party_is_sent_looks_uniform(party: int, bits: int) -> None:
    spec = CorrelationSpec((), (), (Compared(4096, bits),))
    parts = [bytes(pair[party]) for pair in Dealer(spec, fresh_seed()).block()]
    counts = np.bincount(np.frombuffer(parts[1], np.uint8), minlength=256)
    expected = len(parts[1]) / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 400  # 255 degrees of freedom: above 400 once in 10^8 runs


def test_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = CorrelationSpec((), (), (Compared(20_000, 16), Compared(9000, 30)))
    blocks = []
    for threads in (1, 3):
        seeds = iter([bytes([1]) * 32, bytes([2]) * 32])
        monkeypatch.setattr(dealing, "fresh_seed", lambda seeds=seeds: next(seeds))
        blocks.append(list(Dealer(spec, bytes(32), threads=threads).block()))
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize("audited", [False, True])
def test_what_an_open_block_takes_is_as_announced(audited: bool) -> None:
    spec = replace(NEEDS, comparisons=(Compared(500, 16), Compared(300, 32)), audit=audited)
    for party in (0, 1):
        parts = [bytes(pair[party]) for pair in Dealer(spec, fresh_seed()).block()]
        taken = 8 * (48 + 2)
        for number in (0, 1):
            one = open_selection(party, parts[0], spec, number, parts[3 + number])
            tree = one.keys.tree.corrections.nbytes if one.keys.tree else 0
            pairs = sum(pair.nbytes for pair in one.keys.pairs)
            taken += one.r.nbytes + pairs + one.keys.tables.nbytes + one.keys.roots.nbytes + tree
            taken += one.checks.equal.nbytes + one.checks.other.nbytes if one.checks else 0
            taken += one.keys.masks.nbytes
        assert taken * 0.99 < open_bytes(spec) < taken * 1.01
