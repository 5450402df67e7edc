"""Correlated randomness for one batch: what the crypto provider deals, and what a party has of it.

By seed: each party expands its part from 32 bytes. Sent: only what a seed cannot give.

| for each         | data owner                | model owner                                  |
| ---------------- | ------------------------- | -------------------------------------------- |
| opening          | mask A, by seed           | nothing                                      |
| product          | C_0, by seed              | C_1 = A * B - C_0, sent                      |
| comparison of x  | r_0, bits' masks by seed  | the same                                     |
| and its tables   | sent                      | by seed                                      |
| ten pairs        | some sent, rest by seed   | the others sent                              |
| a wide ring's    | root by seed, rest sent   | root by seed, rest sent                      |
| its check, with  | two words by seed         | two words sent                               |
| audit; release   | a, u by seed              | M by seed; v sent                            |

B masks the weights, by a seed that the model owner alone gets and that serves one session; A, r and
the keys serve one batch and never again.

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
from primia_flwr.inference.fss.dealing import deal
from primia_flwr.inference.fss.keys import CompareKeys, Sizes
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
    spec : CorrelationSpec
        Of the plan.
    weight_seed : bytes
        Of the weights' masks, 32 bytes.
    device : torch.device
        Of the products.
    threads : int
        For the comparisons.
    """

    def __init__(
        self,
        spec: CorrelationSpec,
        weight_seed: bytes,
        *,
        device: torch.device = ring.CPU,
        threads: int = 1,
    ) -> None:
        self._needs, self._threads = spec, threads
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
            yield self._comparison(seeds, number, compared)
        if self._needs.audit:
            yield b"", audit.deal_lock(seeds)

    def _comparison(
        self, seeds: tuple[bytes, bytes], number: int, compared: Compared
    ) -> tuple[bytes, bytes]:
        mine, theirs = (_expanded(seed, number, compared.count) for seed in seeds)
        r = mine[1] + theirs[1]
        dealt = deal(r, compared.bits, (mine[0], theirs[0]), threads=self._threads)
        checks = b""
        if self._needs.audit:
            checks = audit.deal_checks(seeds[0], number, r, dealt.inside, compared.bits)
        return b"".join(dealt.sent(0)), b"".join((*dealt.sent(1), checks))


def _expanded(seed: bytes, number: int, count: int) -> tuple[bytes, Words]:
    """Return what a party's seed gives for a comparison step: the keys' seed, and its part of r."""
    stream = Stream(seed, "comparison", number)
    return stream.bytes(SEED_BYTES), stream.uint64(count)


@dataclass(frozen=True)
class Selection:
    """One party's randomness for a comparison step: its part of r, uint64 (count,), and the keys.

    `checks`: with audit.
    """

    r: Words
    keys: CompareKeys
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
    key_seed, r = _expanded(seed, number, count)
    rest, checks = memoryview(sent), None
    if spec.audit and party == ring.DATA_OWNER:
        checks = audit.Checks.own(seed, number, count)
    elif spec.audit:
        end = len(rest) - audit.CHECK_BYTES * count
        rest, checks = rest[:end], audit.Checks.from_bytes(rest[end:])
    return Selection(r, compare.expand(party, key_seed, rest, bits, count), checks)


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
    checks = audit.CHECK_BYTES * (audited and party == ring.MODEL_OWNER)
    return Sizes(compared.bits, compared.count).sent_bytes(party) + checks * compared.count


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


def open_bytes(spec: CorrelationSpec) -> int:
    """Return what a block takes in memory once it is open, at either party, but for its masks A."""
    products = sum(8 * int(np.prod(product.shape)) for product in spec.products)
    each = 8 + 2 * 8 * spec.audit  # r, and the checks
    steps = ((step, Sizes(step.bits, step.count)) for step in spec.comparisons)
    return products + sum(sizes.held_bytes + each * step.count for step, sizes in steps)


def _check_length(what: str, number: int, sent: bytes | memoryview, expected: int) -> None:
    if len(sent) != expected:
        raise ProtocolError(
            f"{what} {number} of a block has {len(sent)} bytes; expected {expected}; do all "
            "parties run the same version of primia_flwr?"
        )
