"""Processor time of one mask: Flower's own generator against ours, same entries, one core.

Flower's makes a new int64 vector from the seed, which it folds to 32 bits, and adds it into
yet another, mask by mask. Ours expands the 256-bit key and adds it to a uint32 vector in
place: `add_mask` one alone, `add_masks` ten in one walk, as a client among ten does. All run
alternately, several times, in one process; time is the process's own, so that what else the
machine does counts little.

    taskset -c 0 python -m benchmarks.mask_expansion --output benchmarks/results/mask_expansion.json

`ratio` is the median of Flower's time for each mask of ten over ours, both expanding and
adding. Bound: at least 8. `other_ratios` are those of one mask alone, and those in which
Flower, and only Flower, is spared the addition.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from benchmarks.machine import describe_machine, publish
from primia_flwr.secagg.masks import add_mask, add_masks

KEY = bytes(range(32))
MOD_RANGE = 1 << 32  # Flower's default modulus
BOUND = 8.0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time each way `args.repeats` times, alternately, after one unmeasured warm-up each."""
    vector = [np.zeros(args.entries, np.int64)]
    ring = np.zeros(args.entries, np.uint32)
    masks = [(bytes([i]) * 32, 1) for i in range(args.masks)]
    ways: dict[str, Callable[[], object]] = {
        "flower_expand": lambda: pseudo_rand_gen(KEY, MOD_RANGE, [(args.entries,)]),
        "flower_expand_and_add": lambda: parameters_addition(
            vector, pseudo_rand_gen(KEY, MOD_RANGE, [(args.entries,)])
        ),
        "ours_alone": lambda: add_mask(ring, KEY),
        "ours_of_many": lambda: add_masks(ring, masks),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(args.repeats + 1):
        for name in list(ways) if repeat % 2 else list(ways)[::-1]:
            started = time.process_time()
            ways[name]()
            if repeat:
                seconds[name].append(time.process_time() - started)
    seconds["ours_of_many"] = [value / args.masks for value in seconds["ours_of_many"]]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        f"{theirs} / {ours}": round(medians[theirs] / medians[ours], 1)
        for theirs in ("flower_expand_and_add", "flower_expand")
        for ours in ("ours_of_many", "ours_alone")
    }
    ratio = ratios.pop("flower_expand_and_add / ours_of_many")
    return {
        "benchmark": "mask_expansion",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "milliseconds": {name: round(1e3 * value, 2) for name, value in medians.items()},
        "ratio": ratio,
        "other_ratios": ratios,
        "bound": BOUND,
        "holds": ratio >= BOUND,
        "all": {
            name: [round(1e3 * value, 2) for value in values] for name, values in seconds.items()
        },
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=11_170_000, help="those of ResNet-18")
    parser.add_argument("--masks", type=int, default=10, help="masks added in one walk")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(measure(args), args.output)


if __name__ == "__main__":
    main()
