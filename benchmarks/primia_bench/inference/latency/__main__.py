"""Encrypted inference over lines of several delays and rates, both protocols, and stock CrypTen.

One grey image at a time through ResNet-18 (random weights, seeded; BatchNorm statistics of 32
random images), by a data owner, a model owner and a crypto provider in a process each, over
mutually authenticated TLS with the kits of a provisioned service, all on this machine.

    python -m primia_bench.inference.latency --output benchmarks/results/inference.json

What the ring of the comparisons costs, by what a calibrated model is served in (and one that is
not: 64 bits), is in a file of its own:

    python -m primia_bench.inference.latency --rings \
        --output benchmarks/results/inference_rings.json

The line between data owner and model owner goes through `tests/relay.py`, which delays every byte
one way and limits each direction by a token bucket: no loss, no jitter, no congestion control of
its own, so TCP's slow start is not seen. The crypto provider's lines are not shaped; what its bytes
would take at each rate is computed. `rate_mbit` null is bare loopback without the relay. The line
is shaped after one image that warms up.

Online, `protocol=fss`: from the masked image to the scores, at the data owner, median of the
images; all randomness was fetched before. `opening_seconds` of preprocessing, which come on top,
are for taking an image's randomness from the store and hearing that the model owner has, too.
`preprocessing`: bytes from the crypto provider for an image, and seconds on loopback until it was
dealt, fetched, multiplied out and sealed; `set_up`: once a session, the masked weights.
`protocol=crypten`: from the first byte to the logits; its triples are made meanwhile,
`seconds_waited_online` is what the model owner waited for them. `exchanges`: of fss, one-way
delays in a row, by the plan; of CrypTen, calls of its communicator. `peak_memory_gb`: of
each process (VmHWM).

`stock` is CrypTen 0.4.1 as shipped, over gloo, with its first party for a dealer, without TLS: gloo
opens ports of its own, which cannot go through the relay, so it is measured on bare loopback only;
its peak memory is that of the larger party, in which the model was made too.

`cores_of_others_online` tells how much of the machine other programs used while the clock ran.
Not measured: real networks, lines to the crypto provider under load, several data owners.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from primia_bench.inference.latency import material, stock, table
from primia_bench.inference.latency.cells import CRYPTEN, FSS, STOCK, Cell, grid, left_out
from primia_bench.inference.latency.measure import apart, measure, say
from primia_bench.inference.latency.parties import COMPARE_BITS
from primia_bench.inference.latency.plot import draw
from primia_bench.inference.latency.quiet import wait_until_quiet
from primia_bench.machine import describe_machine
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.preprocessing.dealing import part_bytes
from primia_flwr.models.registry import build_model
from primia_flwr.provisioning.service import ServicePlan, provision_service

SAFE_BITS = 64
SIZES, DELAYS, RATES = [64, 224], [0.0, 10.0, 50.0, 100.0], [100.0, 1000.0]
_NOTES = [
    "all processes run on one machine; the relay shapes the line between data owner and model "
    "owner only, without loss, jitter or congestion control; rate null: bare loopback, no relay",
    "the crypto provider's lines are not shaped: preprocessing is bytes, and seconds on loopback",
    "random weights (seeded), BatchNorm statistics of 32 random images",
    "fss: all randomness is fetched before the clock runs; opening_seconds come on top of "
    "online_seconds; crypten: triples are made while it runs",
    "stock: gloo opens ports of its own, which cannot go through the relay: bare loopback, no TLS",
]
_RING_NOTES = [
    "random weights (seeded), BatchNorm statistics of 32 random images",
    "dealt_megabytes: to each party, an image, by the plan; measured, at the smallest size, on "
    "bare loopback: preprocessing.megabytes is what came; seconds are those of a machine on which "
    "others used cores_of_others_online",
]
_QUICK = {"model": "simpleconv", "sizes": [16, 32], "delays": [0.0, 10.0], "rates": [1000.0]}


def main() -> None:
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # leave nothing behind
    asked = grid(args.sizes, args.delays, args.rates)
    cells = [c for c in asked if c.protocol in args.only and (args.all or not c.is_slow)]
    results = Results(args, asked if args.quick else [*grid(SIZES, DELAYS, RATES), *asked])
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
        scratch = Path(folder)
        plan = ServicePlan("bench", "127.0.0.1", "127.0.0.1", ["clinic"], loopback=True)
        provision_service(plan, scratch / "service")
        results.bits |= apart(material.make, scratch, args.model, args.sizes)
        if args.rings:
            _write_rings(_rings(scratch, args, results.bits), args.output)
            return
        for size in args.sizes if STOCK in args.only else ():
            quiet = wait_until_quiet(args.wait)
            say(f"stock, {size} px; {quiet} ...")
            row = apart(stock.measure, args.model, size, args.threads)
            results.add_stock({**row, "before": quiet})
        for cell in cells:
            results.add(_measured(cell, scratch, args))
    sys.stdout.write(json.dumps(results.document(), indent=1) + "\n")


def _write_rings(document: dict[str, Any], output: str) -> None:
    text = json.dumps(document, indent=1) + "\n"
    if output:
        Path(output).write_text(text, encoding="utf-8")
    sys.stdout.write(text)


class Results:
    """The rows so far, in the file after each one."""

    def __init__(self, args: argparse.Namespace, whole: list[Cell]) -> None:
        self._args, self._whole = args, list(dict.fromkeys(whole))
        self._file = Path(args.output) if args.output else None
        before: dict[str, Any] = {}
        if args.merge and self._file and self._file.is_file():
            before = json.loads(self._file.read_text(encoding="utf-8"))
        self._rows: list[dict[str, Any]] = before.get("cells", [])
        self._stock: list[dict[str, Any]] = before.get("stock", [])
        needed: dict[str, int] = before.get("comparison_bits", {}).get("needed_by_size", {})
        self.bits = {int(size): bits for size, bits in needed.items()}

    def add(self, row: dict[str, Any]) -> None:
        """Take a cell's figures, in place of earlier ones of the same cell."""
        key = {name: row[name] for name in ("protocol", "size", "delay_ms", "rate_mbit")}
        self._rows = [old for old in self._rows if not key.items() <= old.items()]
        self._rows.append(row)
        self._write()

    def add_stock(self, row: dict[str, Any]) -> None:
        """Take the figures of CrypTen as shipped, in place of earlier ones of the same size."""
        self._stock = [old for old in self._stock if old["size"] != row["size"]] + [row]
        self._write()

    def document(self) -> dict[str, Any]:
        """Return all of it."""
        settings = {k: v for k, v in vars(self._args).items() if k not in ("output", "merge")}
        return {
            "benchmark": "inference",
            "settings": settings,
            "notes": _NOTES,
            "bounds": table.bounds(self._rows),
            "comparison": table.comparison(self._rows, self._stock),
            "preprocessing_seconds_at_rates": table.at_rates(self._rows, RATES),
            "comparison_bits": {"used": 32, "needed_by_size": self.bits},
            "cells": self._rows,
            "stock": self._stock,
            "left_out": left_out(self._whole, self._rows),
            "machine": describe_machine(),
        }

    def _write(self) -> None:
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.document(), indent=1) + "\n"
            self._file.write_text(text, encoding="utf-8")
            draw(self._rows, self._stock, self._file.with_name(f"{self._file.stem}_latency.svg"))


def _rings(scratch: Path, args: argparse.Namespace, needed: dict[int, int]) -> dict[str, Any]:
    """Return what the rings cost that a model is served in: calibrated, the old default, safe."""
    rows = []
    for size in args.sizes:
        for bits in sorted({needed[size], COMPARE_BITS, SAFE_BITS}):
            dealt = _dealt(args.model, size, bits)
            row = {"size": size, "compare_bits": bits, "calibrated": bits == needed[size]}
            rows.append({**row, "dealt_megabytes": dealt})
            if size == min(args.sizes):
                cell = Cell(FSS, size, 0.0, None)
                rows[-1]["measured"] = _measured(cell, scratch, args, compare_bits=bits)
    of = {(row["size"], row["compare_bits"]): row["dealt_megabytes"] for row in rows}
    return {
        "benchmark": "inference_rings",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "notes": _RING_NOTES,
        "calibrated_by_size": needed,
        "dealt_of_that_in_64_bits": {
            size: {
                role: round(dealt / of[size, SAFE_BITS][role], 3)
                for role, dealt in of[size, needed[size]].items()
            }
            for size in args.sizes
        },
        "rows": rows,
        "machine": describe_machine(),
    }


def _dealt(name: str, size: int, bits: int) -> dict[str, float]:
    """Return the megabytes that each party is dealt for an image, by the plan."""
    model = build_model(ModelConfig(name=name), outputs=3, channels=1, seed=0).eval()
    spec = CorrelationSpec.of(lower(model, (1, 1, size, size), compare_bits=bits).plan)
    roles = {"data-owner": ring.DATA_OWNER, "model-owner": ring.MODEL_OWNER}
    return {role: round(sum(part_bytes(at, spec)) / 1e6, 3) for role, at in roles.items()}


def _measured(
    cell: Cell, scratch: Path, args: argparse.Namespace, *, compare_bits: int = COMPARE_BITS
) -> dict[str, Any]:
    quiet = wait_until_quiet(args.wait)
    say(f"{cell}, {compare_bits} bits; {quiet} ...")
    service, of_size = scratch / "service", scratch / str(cell.size)
    row = measure(
        cell,
        service,
        of_size,
        images=args.images,
        threads=args.threads,
        compare_bits=compare_bits,
    )
    say(f"  {row['online_seconds']} s online, others {row['cores_of_others_online']} cores")
    return {**row, "model": args.model, "before": quiet}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet18", help="another one to try this out")
    parser.add_argument("--sizes", type=_numbers(int), default=SIZES, help="pixels of a side")
    parser.add_argument("--delays", type=_numbers(float), default=DELAYS, help="one way, ms")
    parser.add_argument("--rates", type=_numbers(float), default=RATES, help="each way, Mbit/s")
    every = (FSS, CRYPTEN, STOCK)
    parser.add_argument("--only", choices=every, nargs="+", default=list(every))
    parser.add_argument(
        "--images",
        type=int,
        choices=range(1, material.IMAGES),
        default=material.IMAGES - 1,
        help="measured in each cell of fss up to 10 ms; elsewhere it is one",
    )
    parser.add_argument("--all", action="store_true", help="with CrypTen at 224 px and 100 Mbit/s")
    parser.add_argument(
        "--rings", action="store_true", help="only what rings cost: calibrated, 32 bits, 64"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--wait", type=float, default=0.0, help="for a quiet machine, seconds")
    parser.add_argument("--quick", action="store_true", help="a tiny model, few lines: a trial")
    parser.add_argument("--merge", action="store_true", help="keep other cells of the output")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(_QUICK)
    return args


def _numbers(kind: type) -> Any:
    return lambda text: [kind(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
