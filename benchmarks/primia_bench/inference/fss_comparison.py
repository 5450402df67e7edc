"""Speed and size of comparisons by function secret sharing, for rings of several sizes.

Masks and numbers are random. Each way runs several times after one unmeasured warm-up; the
results are checked against max(x, 0). The rates are comparisons for each second of
processor time, of one core, and for each second on the clock, with `--threads` threads.

    taskset -c 1 python -m primia_bench.inference.fss_comparison \
        --output benchmarks/results/fss_comparison.json

Bounds: at 32 bits, evaluation of at least 3 million comparisons a second and core; every result
right.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from primia_bench.machine import describe_machine, publish
from primia_flwr.inference.arithmetic.randomness import Stream, fresh_seed
from primia_flwr.inference.fss import compare
from primia_flwr.inference.fss.dealing import deal
from primia_flwr.inference.fss.keys import Sizes

BOUND_BITS, BOUND = 32, 3e6


def measure(args: argparse.Namespace) -> dict[str, Any]:
    rings = {str(bits): measure_ring(bits, args) for bits in args.bits}
    at_bound = rings.get(str(BOUND_BITS))
    wrong = sum(ring["wrong"] for ring in rings.values())
    return {
        "benchmark": "fss_comparison",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "rings": rings,
        "bound": BOUND,
        "holds": at_bound and wrong == 0 and at_bound["evaluate"]["per_processor_second"] >= BOUND,
        "machine": describe_machine(),
    }


def measure_ring(bits: int, args: argparse.Namespace) -> dict[str, Any]:
    """Deal, expand, evaluate and select `args.count` random numbers below 2^(bits - 2)."""
    stream, seeds = Stream(fresh_seed(), "benchmark"), (fresh_seed(), fresh_seed())
    x = stream.uint64(args.count).view(np.int64) >> (65 - bits)
    r, threads = stream.uint64(args.count), args.threads
    dealt = deal(r, bits, seeds)
    sent = [b"".join(dealt.sent(party)) for party in (0, 1)]
    keys = [compare.expand(p, seeds[p], sent[p], bits, args.count) for p in (0, 1)]
    words = x.view(np.uint64)
    opened = words + r
    packed = compare.evaluate(keys[0], opened) ^ compare.evaluate(keys[1], opened)
    chosen = np.unpackbits(packed, axis=1, count=args.count, bitorder="little")
    shares = r, words - r
    found = [
        compare.relu(one, opened, chosen, share) for one, share in zip(keys, shares, strict=True)
    ]

    def online() -> None:
        compare.evaluate(keys[0], opened, threads)
        compare.relu(keys[0], opened, chosen, shares[0], threads)

    return {
        "deal": rates(lambda: deal(r, bits, seeds, threads=threads), args),
        "expand": rates(lambda: compare.expand(0, seeds[0], sent[0], bits, args.count), args),
        "evaluate": rates(lambda: compare.evaluate(keys[0], opened, threads), args),
        "evaluate_and_select": rates(online, args),
        "bytes_sent_to_party_0": round(len(sent[0]) / args.count, 3),
        "bytes_sent_to_party_1": round(len(sent[1]) / args.count, 3),
        "bytes_held": round(Sizes(bits, args.count).held_bytes / args.count, 3),
        "wrong": int(np.count_nonzero((found[0] + found[1]).view(np.int64) != np.maximum(x, 0))),
    }


def rates(way: Callable[[], object], args: argparse.Namespace) -> dict[str, Any]:
    """Return the medians of comparisons a second, and all of them, in millions."""
    processor, clock = [], []
    for repeat in range(args.repeats + 1):
        started = time.process_time(), time.perf_counter()
        way()
        if repeat:
            processor.append(args.count / (time.process_time() - started[0]))
            clock.append(args.count / (time.perf_counter() - started[1]))
    return {
        "per_processor_second": round(statistics.median(processor)),
        "per_second": round(statistics.median(clock)),
        "all_millions_per_processor_second": [round(rate / 1e6, 2) for rate in processor],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1 << 18, help="comparisons at a time")
    parser.add_argument(
        "--bits", type=int, nargs="+", default=[16, 22, 32, 64], help="of the rings"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(measure(args), args.output)


if __name__ == "__main__":
    main()
