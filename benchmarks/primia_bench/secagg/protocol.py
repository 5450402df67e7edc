"""The figures that the secure-aggregation protocol is held to, without Flower around it.

All parties are in one process, and every message goes through its bytes. What each figure means
and where its bound comes from is said in `primia_bench.secagg`:

- `exactness`: means within their bound, for 3 to 100 clients, whoever is lost;
- `bytes up`: what a client of ResNet-18 sends, over a plain float32 update;
- `masking`: the masks against those of Flower's generator;
- `growth`: bytes and seconds of a client, to 100 on the complete graph, 1,000 on the sparse one;
- `dropouts`: clients that die at each step.

    taskset -c 0 python -m primia_bench.secagg.protocol --output results.json

It takes minutes; most of them go into the instance of 1,000 clients. Seconds are the
processor's, so that what else the machine does counts little. `--quick` takes tiny sizes.
"""

import argparse
from typing import Any

from primia_bench.machine import describe_machine, publish
from primia_bench.secagg import costs, dropouts, exactness, growth


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the rows of figures, each with its bound, and the tables behind them."""
    if quick:
        parts = {
            "exactness": exactness.measure(exactness.QUICK),
            "bytes up": costs.bytes_up(clients=10, entries=100_000),
            "masking": costs.masking(entries=100_000, repeats=1),
            "growth": growth.measure((3, 6, 12), (20, 40, 60)),
            "dropouts": dropouts.measure((5,)),
        }
    else:
        parts = {
            "exactness": exactness.measure(exactness.FULL),
            "bytes up": costs.bytes_up(clients=10, entries=costs.resnet18_entries()),
            "masking": costs.masking(entries=11_170_000, repeats=9),
            "growth": growth.measure(),
            "dropouts": dropouts.measure(),
        }
    rows = [row for found, _ in parts.values() for row in found]
    return {
        "benchmark": "secagg_protocol",
        "settings": {"quick": quick},
        "rows": [row.to_dict() for row in rows],
        "do_not_hold": [f"{row.part}: {row.what}" for row in rows if not row.holds],
        "tables": {part: table for part, (_, table) in parts.items()},
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(measure(quick=args.quick), args.output)


if __name__ == "__main__":
    main()
