"""Processor time of one mask: Flower's own generator against ours, same entries, one core.

Flower's makes a new int64 vector from the seed, which it folds to 32 bits, and adds it into
yet another, mask by mask. Ours expands the 256-bit keys and adds all masks of a client to a
uint32 vector in one walk over it. All run alternately, several times, in one process; time is
the process's own, so that what else the machine does counts little.

    taskset -c 0 python -m primia_bench.secagg.mask_expansion \
        --output benchmarks/results/mask_expansion.json

`ratios`: Flower's time for a mask over ours, by the number of masks that a client adds, both
sides expanding and adding. Three is the fewest that the protocol knows: two peers' and one's own,
in a federation of three; ten is a client's among ten. Bound: at least 8 for both. `other_ratios`
are not held to it: one mask alone, which no party of the protocol ever adds, and those in
which Flower, and only Flower, is spared the addition.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from primia_bench.machine import describe_machine, publish
from primia_flwr.secagg.payload.masks import add_mask, add_masks

KEY = bytes(range(32))
MOD_RANGE = 1 << 32  # Flower's default modulus
BOUND = 8.0
MASKS = (3, 10)  # in one walk: a client of the smallest federation, and one among ten


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time each way `args.repeats` times, alternately, after one unmeasured warm-up each."""
    seconds = _time(args.entries, args.repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    theirs, expansion = medians["flower_expand_and_add"], medians["flower_expand"]
    ratios = {f"{n} masks": round(theirs / medians[f"ours_each_of_{n}"], 1) for n in MASKS}
    return {
        "benchmark": "mask_expansion",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "milliseconds": {name: round(1e3 * value, 2) for name, value in medians.items()},
        "ratios": ratios,
        "bound": BOUND,
        "holds": min(ratios.values()) >= BOUND,
        "other_ratios": {
            "one mask alone": round(theirs / medians["ours_alone"], 1),
            **{
                f"Flower spared the addition, {name}": round(expansion / value, 1)
                for name, value in medians.items()
                if name.startswith("ours")
            },
        },
        "all": {
            name: [round(1e3 * value, 2) for value in values] for name, values in seconds.items()
        },
        "machine": describe_machine(),
    }


def _time(entries: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds that each way takes for one mask."""
    vector = [np.zeros(entries, np.int64)]
    ring = np.zeros(entries, np.uint32)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "flower_expand": (1, lambda: pseudo_rand_gen(KEY, MOD_RANGE, [(entries,)])),
        "flower_expand_and_add": (
            1,
            lambda: parameters_addition(vector, pseudo_rand_gen(KEY, MOD_RANGE, [(entries,)])),
        ),
        "ours_alone": (1, lambda: add_mask(ring, KEY)),
        **{f"ours_each_of_{n}": (n, partial(add_masks, ring, _keys(n))) for n in MASKS},
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name in list(ways) if repeat % 2 else list(ways)[::-1]:
            masks, work = ways[name]
            started = time.process_time()
            work()
            if repeat:
                seconds[name].append((time.process_time() - started) / masks)
    return seconds


def _keys(masks: int) -> list[tuple[bytes, int]]:
    return [(bytes([number]) * 32, 1) for number in range(masks)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=11_170_000, help="those of ResNet-18")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(measure(args), args.output)


if __name__ == "__main__":
    main()
