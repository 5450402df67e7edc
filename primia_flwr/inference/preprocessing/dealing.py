"""Correlated randomness for one batch: what the crypto provider deals, and what a party has of it.

By seed: each party expands its part from 32 bytes. Sent: only what a seed cannot give.

| for each         | data owner                | model owner                                  |
| ---------------- | ------------------------- | -------------------------------------------- |
| opening          | mask A, by seed           | nothing                                      |
| product          | C_0, by seed              | C_1 = A * B - C_0, sent                      |
| comparison of x  | r_0, s_0, (r s)_0 by seed | r_1 by seed; s_1, (r s)_1 sent               |
| and its key      | root by seed, rest sent   | root by seed, rest sent                      |
| its check, with  | high_0, borrow_0 by seed  | high_1, borrow_1 sent                        |
| audit; release   | a, u by seed              | M by seed; v sent                            |

B masks the weights, by a seed that the model owner alone gets and that serves one session; A, r, s
and the keys serve one batch and never again.

Source: Beaver 1991; Mishra et al. 2020 (Delphi), section 4, for products with weights that one
party knows; Boyle et al. 2021 (ePrint 2020/1392) for the comparison.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.arithmetic.randomness import SEED_BYTES, Stream, fresh_seed
from primia_flwr.inference.correlation_spec import Compared, CorrelationSpec
from primia_flwr.inference.fss import compare
from primia_flwr.inference.overflow import check as audit

Words = NDArray[np.uint64]


def tensor(words: Words) -> Tensor:
    """Return words as an int64 tensor over the same memory."""
    return torch.from_numpy(words.view(np.int64))


def words(values: Tensor) -> Words:
    """Return an int64 tensor's entries as words."""
    return values.contiguous().numpy().view(np.uint64)


def weight_masks(spec: CorrelationSpec, seed: bytes) -> list[Tensor]:
    """Return B of each product, int64."""
    return [
        tensor(Stream(seed, "weight", number).uint64(product.weight_shape))
        for number, product in enumerate(spec.products)
    ]


class Dealer:
    """Deals blocks, each for one batch.

    Parameters
    ----------
    needs : Needs
        Of the plan.
    weight_seed : bytes
        Of the weights' masks, 32 bytes.
    device : torch.device
        Of the products.
    """

    def __init__(
        self, spec: CorrelationSpec, weight_seed: bytes, *, device: torch.device = ring.CPU
    ) -> None:
        self._needs = spec
        self._masks = [ring.place(mask, device) for mask in weight_masks(spec, weight_seed)]

    def block(self) -> Iterator[tuple[bytes, bytes]]:
        """Deal one block: pairs of what goes to data owner and model owner, in a fixed order.

        First each party's seed, then one pair for each product, then one for each comparison, and
        with audit one for the release of the scores.
        """
        seeds = (fresh_seed(), fresh_seed())
        yield seeds
        openings = [
            tensor(opening_mask(seeds[0], i, s)) for i, s in enumerate(self._needs.openings)
        ]
        for number, product in enumerate(self._needs.products):
            value = ring.product(openings[product.opening], self._masks[number], product.geometry)
            value -= tensor(_product_share(seeds[0], number, product.shape))
            yield b"", words(value).tobytes()
        for number, compared in enumerate(self._needs.comparisons):
            yield _deal_comparison(seeds, number, compared, self._needs.audit)
        if self._needs.audit:
            yield b"", audit.deal_lock(seeds)


def _deal_comparison(
    seeds: tuple[bytes, bytes], number: int, compared: Compared, audited: bool
) -> tuple[bytes, bytes]:
    count = compared.count
    mine = [_Expanded.of(party, seeds[party], number, count) for party in (0, 1)]
    r = mine[0].r + mine[1].r
    s = Stream(fresh_seed(), "select").bits(count)
    chosen = s.astype(np.uint64)
    parts = chosen - mine[0].s, r * chosen - mine[0].rs
    keys = compare.deal(r, s, compared.bits, (mine[0].key_seed, mine[1].key_seed))
    selects = parts[0].tobytes(), parts[1].tobytes()
    checks = audit.deal_checks(seeds[0], number, r, s, compared.bits) if audited else b""
    return b"".join(keys.sent(0)), b"".join((*selects, checks, *keys.sent(1)))


@dataclass(frozen=True)
class _Expanded:
    """What a seed gives for a comparison step; `s` and `rs` only for the data owner."""

    r: Words
    s: Words
    rs: Words
    key_seed: bytes

    @classmethod
    def of(cls, party: int, seed: bytes, number: int, count: int) -> "_Expanded":
        stream = Stream(seed, "comparison", number)
        key_seed = stream.bytes(SEED_BYTES)
        r = stream.uint64(count)
        if party == ring.MODEL_OWNER:
            return cls(r, r[:0], r[:0], key_seed)
        return cls(r, stream.uint64(count), stream.uint64(count), key_seed)


@dataclass(frozen=True)
class Selection:
    """One party's randomness for a comparison step: uint64 (count,) each, and the keys.

    `checks`: with audit.
    """

    r: Words
    s: Words
    rs: Words
    keys: compare.CompareKeys
    checks: audit.Checks | None = None


def opening_mask(seed: bytes, number: int, shape: Sequence[int]) -> Words:
    """Return A of an opening."""
    return Stream(seed, "opening", number).uint64(tuple(shape))


def _product_share(seed: bytes, number: int, shape: Sequence[int]) -> Words:
    return Stream(seed, "product", number).uint64(tuple(shape))


def open_product(
    party: int, seed: bytes, spec: CorrelationSpec, number: int, sent: bytes
) -> Tensor:
    """Return a party's share of A * B of a product.

    Raises
    ------
    ProtocolError
        If what was sent has another length.
    """
    shape = spec.products[number].shape
    if party == ring.DATA_OWNER:
        _check_length("product", number, sent, 0)
        return tensor(_product_share(seed, number, shape))
    _check_length("product", number, sent, 8 * int(np.prod(shape)))
    return tensor(np.frombuffer(sent, np.uint64).reshape(shape).copy())


def open_selection(
    party: int, seed: bytes, spec: CorrelationSpec, number: int, sent: bytes
) -> Selection:
    """Return a party's randomness for a comparison step.

    Raises
    ------
    ProtocolError
        If what was sent has another length.
    """
    compared = spec.comparisons[number]
    count, bits = compared.count, compared.bits
    _check_length("comparison", number, sent, comparison_bytes(party, compared, spec.audit))
    own = _Expanded.of(party, seed, number, count)
    s, rs, rest = own.s, own.rs, memoryview(sent)
    checks = audit.Checks.own(seed, number, count) if spec.audit else None
    if party == ring.MODEL_OWNER:
        s = np.frombuffer(rest[: 8 * count], np.uint64)
        rs = np.frombuffer(rest[8 * count : 16 * count], np.uint64)
        rest = rest[16 * count :]
        if spec.audit:
            checks = audit.Checks.from_bytes(rest[: 16 * count])
            rest = rest[16 * count :]
    keys = compare.expand(party, own.key_seed, rest, bits, count)
    return Selection(own.r, s, rs, keys, checks)


def open_release(party: int, seed: bytes, sent: bytes) -> audit.Key | audit.Lock:
    """Return a party's part of an audit's release: the data owner's key, or the lock.

    Raises
    ------
    ProtocolError
        If what was sent has another length.
    """
    model_owner = party == ring.MODEL_OWNER
    _check_length("release", 0, sent, audit.LOCK_BYTES * model_owner)
    return audit.Lock.open(seed, sent) if model_owner else audit.Key.open(seed)


def comparison_bytes(party: int, compared: Compared, audited: bool) -> int:
    """Return how many bytes are sent to a party for a comparison step."""
    keys = compare.sent_bytes(party, compared.bits, compared.count)
    if party == ring.DATA_OWNER:
        return keys
    return keys + (32 if audited else 16) * compared.count


def part_bytes(party: int, spec: CorrelationSpec) -> list[int]:
    """Return the length of each part of a block, in the order of `Dealer.block`."""
    model_owner = party == ring.MODEL_OWNER
    products = [8 * int(np.prod(p.shape)) if model_owner else 0 for p in spec.products]
    comparisons = [comparison_bytes(party, step, spec.audit) for step in spec.comparisons]
    release = [audit.LOCK_BYTES * model_owner] * spec.audit
    return [SEED_BYTES, *products, *comparisons, *release]


def stored_bytes(party: int, spec: CorrelationSpec) -> int:
    """Return what a block takes in a party's store: its parts, the data owner's products too."""
    products = sum(8 * int(np.prod(product.shape)) for product in spec.products)
    own = products if party == ring.DATA_OWNER else 0
    return sum(part_bytes(party, spec)) + own


def _check_length(what: str, number: int, sent: bytes | memoryview, expected: int) -> None:
    if len(sent) != expected:
        raise ProtocolError(
            f"{what} {number} of a block has {len(sent)} bytes; expected {expected}; do all "
            "parties run the same version of primia_flwr?"
        )
