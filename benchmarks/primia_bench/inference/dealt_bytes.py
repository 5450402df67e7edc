"""Where the bytes are that the crypto provider sends for an image, to each party, by kind.

Counted from what the dealer makes: at the smallest size a block is dealt, every part's length is
added up, and the sum must be that of the table. Elsewhere the table is of the plan alone, whose
lengths `tests/inference/preprocessing/test_dealing.py` holds against dealt blocks.

    python -m primia_bench.inference.dealt_bytes --output benchmarks/results/dealt_bytes.json

`before`: a point function for each comparison over all but the highest bit, and two words for the
selection, as this program dealt until 2026-11-29; 16 (n - 7) bytes of key for each party.

Bound: at 224 x 224, in the calibrated ring, at most 0.65 GB to each party.
"""

import argparse
from typing import Any

import numpy as np
import torch

from primia_bench.inference.crypten_stock import model_and_image
from primia_bench.machine import describe_machine, publish
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.arithmetic.randomness import SEED_BYTES, fresh_seed
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.fss.choice import PAIR_BYTES
from primia_flwr.inference.fss.keys import Sizes
from primia_flwr.inference.fss.prg import BLOCK_BYTES, KEY_BYTES
from primia_flwr.inference.lowering.bounds import measure, needed_bits
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.preprocessing.dealing import Dealer, part_bytes

ROLES = {"data-owner": ring.DATA_OWNER, "model-owner": ring.MODEL_OWNER}
BOUND_SIZE, BOUND = 224, 0.65e9


def counted(spec: CorrelationSpec, party: int) -> dict[str, int]:
    """Return the bytes of one block to a party, by kind."""
    sizes = [Sizes(step.bits, step.count) for step in spec.comparisons]
    products = sum(8 * int(np.prod(product.shape)) for product in spec.products)
    trees = [
        BLOCK_BYTES * one.tree_words * one.count + KEY_BYTES * bool(one.tree_words) for one in sizes
    ]
    return {
        "seed": SEED_BYTES,
        "shares of products": products if party == ring.MODEL_OWNER else 0,
        "tables of digits": sum(8 * one.table_words * one.count for one in sizes)
        if party == ring.DATA_OWNER
        else 0,
        "pairs of the selection": sum(PAIR_BYTES * one.pairs(party) * one.count for one in sizes),
        "trees of the low digit": sum(trees),
    }


def before(spec: CorrelationSpec, party: int) -> int:
    """Return what one block took with a point function over the whole ring."""
    total = SEED_BYTES
    for step in spec.comparisons:
        total += BLOCK_BYTES * (step.bits - 7) * step.count + KEY_BYTES
        if party == ring.MODEL_OWNER:
            total += 16 * step.count + -(-step.count // 8)
    if party == ring.MODEL_OWNER:
        total += sum(8 * int(np.prod(product.shape)) for product in spec.products)
    return total


def row(spec: CorrelationSpec, size: int, bits: int, *, deal: bool) -> dict[str, Any]:
    """Return the table of one size and ring; `deal`: hold it against a block."""
    count = sum(step.count for step in spec.comparisons)
    by_party = {role: counted(spec, party) for role, party in ROLES.items()}
    found: dict[str, Any] = {"size": size, "compare_bits": bits, "comparisons": count}
    for role, party in ROLES.items():
        total = sum(by_party[role].values())
        if total != sum(part_bytes(party, spec)):
            raise SystemExit(f"the table of {role} has {total} bytes; the plan has others")
        found[role] = {
            "bytes": by_party[role],
            "megabytes": round(total / 1e6, 3),
            "megabytes_before": round(before(spec, party) / 1e6, 3),
        }
    if deal:
        dealt = [0, 0]
        for pair in Dealer(spec, fresh_seed()).block():
            dealt = [total + len(part) for total, part in zip(dealt, pair, strict=True)]
        if dealt != [sum(by_party[role].values()) for role in ROLES]:
            raise SystemExit(f"a block has {dealt} bytes; the tables have others")
        found["dealt"] = dict(zip(ROLES, dealt, strict=True))
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return all rows, and whether the bound holds."""
    rows, calibrated = [], {}
    for size in args.sizes:
        model, _ = model_and_image(argparse.Namespace(model=args.model, size=size))
        images = torch.randn(4, 1, size, size, generator=torch.Generator().manual_seed(2))
        plan = lower(model, (1, 1, size, size)).plan
        calibrated[size] = max(needed_bits(measure(model, [image[None] for image in images]), plan))
        for bits in sorted({calibrated[size], *args.bits}):
            lowered = lower(model, (1, 1, size, size), compare_bits=bits)
            deal = size == min(args.sizes)
            rows.append(row(CorrelationSpec.of(lowered.plan), size, bits, deal=deal))
    largest = [
        one[role]["megabytes"] * 1e6
        for one in rows
        for role in ROLES
        if one["size"] == BOUND_SIZE and one["compare_bits"] == calibrated[BOUND_SIZE]
    ]
    return {
        "benchmark": "dealt_bytes",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "calibrated_by_size": calibrated,
        "rows": rows,
        "bound_bytes_each": BOUND,
        "holds": bool(largest) and max(largest) <= BOUND,
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="pixels of a side")
    parser.add_argument("--bits", type=int, nargs="+", default=[32, 64], help="other rings")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(run(args), args.output)


if __name__ == "__main__":
    main()
