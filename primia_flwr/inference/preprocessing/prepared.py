"""A block made ready: what a party holds when the first image comes.

The data owner's share of every product is known before its image: A * F + C_0, with the masked
weights F = W - B that the model owner sent once. Online it computes no linear layer at all.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from primia_flwr.errors import ProtocolError
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.overflow.check import Key, Lock
from primia_flwr.inference.preprocessing.dealing import (
    Selection,
    open_product,
    open_release,
    open_selection,
    opening_mask,
    tensor,
)


@dataclass(frozen=True)
class Prepared:
    """One party's randomness for one batch.

    `openings`: A of each opening, int64; empty at the model owner. `products`: the data owner's
    share of each product, or C_1. `selections`: of each comparison step. `release`: with audit,
    the data owner's key, or the model owner's lock.
    """

    openings: tuple[Tensor, ...]
    products: tuple[Tensor, ...]
    selections: tuple[Selection, ...]
    release: Key | Lock | None = None


def masked_products(
    spec: CorrelationSpec, seed: bytes, masked_weights: Sequence[Tensor]
) -> Iterator[Tensor]:
    """Yield the data owner's share A * F + C_0 of each product, int64."""
    masks = _masks(spec, seed)
    for number, product in enumerate(spec.products):
        share = ring.product(masks[product.opening], masked_weights[number], product.geometry)
        share += open_product(ring.DATA_OWNER, seed, spec, number, b"")
        yield share


def prepare(
    party: int, spec: CorrelationSpec, parts: Sequence[bytes], products: Iterable[Tensor] = ()
) -> Prepared:
    """Make a block ready.

    Parameters
    ----------
    party : int
        Whose.
    spec : CorrelationSpec
        Of the plan.
    parts : sequence of bytes
        All parts of the block, in the order of `Dealer.block`.
    products : iterable of Tensor
        The data owner's, from `masked_products`; else those that were dealt.

    Raises
    ------
    ProtocolError
        If a part is missing or has another length.
    """
    num_products = len(spec.products)
    steps = 1 + num_products + len(spec.comparisons)
    if len(parts) != steps + spec.audit:
        raise ProtocolError(f"a block of {len(parts)} parts; expected one for each step")
    seed = bytes(parts[0])
    if party == ring.MODEL_OWNER:
        dealt = parts[1 : 1 + num_products]
        products = [open_product(party, seed, spec, i, part) for i, part in enumerate(dealt)]
    selections = [
        open_selection(party, seed, spec, i, part)
        for i, part in enumerate(parts[1 + num_products : steps])
    ]
    openings = _masks(spec, seed) if party == ring.DATA_OWNER else []
    release = open_release(party, seed, parts[steps]) if spec.audit else None
    return Prepared(tuple(openings), tuple(products), tuple(selections), release)


def _masks(spec: CorrelationSpec, seed: bytes) -> list[Tensor]:
    return [tensor(opening_mask(seed, i, shape)) for i, shape in enumerate(spec.openings)]
