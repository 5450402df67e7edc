"""How long does an image wait in `primia infer watch=true`? From the file to the written result.

Three processes over TLS on this machine: crypto provider, model owner, and a clinic that watches
a folder. A grey ResNet-18 with random weights. Once the randomness of `--prefetch` images waits at
both parties and one more block is open, a file is renamed into the folder; the clock runs until
`predictions.csv` has its row. Then the next one, when the randomness is full again.

    python -m primia_bench.inference.watch --output benchmarks/results/inference_watch.json

`seconds`: from the rename to the row. `settle`: how long a file must not change before it counts
as whole, a setting; `seconds_without_settle` is the difference. What remains beside
`online_seconds` is the polling of the folder (every quarter of a second), decoding, the model
owner's log, and the table. `cores_of_others`: how much of the
machine other programs used while the clock ran. `peak_memory_gb`: of each process (VmHWM).
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from primia_bench.inference.latency import material
from primia_bench.inference.latency.measure import apart
from primia_bench.inference.latency.quiet import Others, wait_until_quiet
from primia_bench.machine import describe_machine, publish
from primia_flwr.inference.service.watch import POLL_SECONDS
from primia_flwr.storage import plain_csv
from primia_flwr.trials.service import UNLIMITED, RunningService, command_line, running_service

_PATIENCE = 900.0
_QUIET = 3.0  # seconds without a change of the stores: they are full, and the next block is open


def measure(size: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one image size."""
    with tempfile.TemporaryDirectory(prefix="primia-watch-") as folder:
        scratch = Path(folder)
        apart(material.make, scratch, args.model, [size])
        ahead = f"prefetch={args.prefetch}"
        ring = "compare_bits=32"  # that of the figures before there was calibration
        with running_service(scratch / str(size), options=(ahead, ring, *UNLIMITED)) as service:
            return _watch(service, scratch, size, args)


def _watch(
    service: RunningService, scratch: Path, size: int, args: argparse.Namespace
) -> dict[str, Any]:
    inbox, output = scratch / "inbox", scratch / "out"
    inbox.mkdir()
    words = command_line(
        *("infer", f"server=localhost:{service.model_owner_port}", f"kit={service.clinic_kit}"),
        *(f"data.root={inbox}", f"output={output}", f"store.folder={service.folder}"),
        *("watch=true", f"watch_settle={args.settle}", f"prefetch={args.prefetch}", "quiet=true"),
    )
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as clinic:
        try:
            rows = []
            for number in range(args.images):
                _wait_until_full(service.folder, 2 * args.prefetch, clinic)
                wait_until_quiet(args.wait)
                rows.append(_one(inbox, output, number, size, clinic))
            pids = {
                "data-owner": clinic.pid,
                "model-owner": service.model_owner.pid,
                "crypto-provider": service.provider.pid,
            }
            peak = {role: _peak_gb(pid) for role, pid in pids.items()}
        finally:
            clinic.terminate()
    seconds = [row["seconds"] for row in rows]
    return {
        "size": size,
        "seconds": statistics.median(seconds),
        "seconds_without_settle": round(statistics.median(seconds) - args.settle, 3),
        "online_seconds": statistics.median(row["online_seconds"] for row in rows),
        "all": rows,
        "peak_memory_gb": peak,
    }


def _one(
    inbox: Path, output: Path, number: int, size: int, clinic: subprocess.Popen[bytes]
) -> dict[str, float]:
    pixels = np.random.default_rng(number).integers(0, 256, (size, size), dtype=np.uint8)
    hidden = inbox / f".{number}.png"
    Image.fromarray(pixels).save(hidden)
    others, started = Others(), time.monotonic()
    hidden.rename(inbox / f"{number}.png")
    _wait(lambda: len(_rows(output)) > number, 0.005, clinic)
    seconds = time.monotonic() - started
    online = float(_rows(output)[number]["seconds"])
    return {
        "seconds": round(seconds, 3),
        "online_seconds": round(online, 3),
        "cores_of_others": others.cores(),
    }


def _rows(output: Path) -> list[dict[str, str]]:
    table = output / "predictions.csv"
    return list(plain_csv.DictReader(table.open(encoding="utf-8"))) if table.exists() else []


def _wait_until_full(folder: Path, blocks: int, clinic: subprocess.Popen[bytes]) -> None:
    """Wait until so many blocks wait, and the stores have not changed for a while."""
    since, before = time.monotonic(), dict[Path, int]()

    def is_full() -> bool:
        nonlocal since, before
        found = {}
        for file in folder.glob("primia-store-*/block-*"):
            try:
                found[file] = file.stat().st_size
            except FileNotFoundError:
                continue
        if found != before:
            since, before = time.monotonic(), found
        return len(found) == blocks and time.monotonic() - since > _QUIET

    _wait(is_full, 0.1, clinic)


def _wait(what: Callable[[], bool], every: float, clinic: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while not what():
        if clinic.poll() is not None or time.monotonic() > end:
            raise SystemExit("the clinic's process has ended, or nothing came; see above")
        time.sleep(every)


def _peak_gb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e9, 2)
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", default="resnet18", help="another one to try this out")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="pixels of a side")
    parser.add_argument("--images", type=int, default=3, help="of each size")
    parser.add_argument("--prefetch", type=int, default=2, help="images whose randomness waits")
    parser.add_argument(
        "--settle", type=float, default=1.0, help="seconds; the default of the command"
    )
    parser.add_argument("--wait", type=float, default=0, help="seconds for others to be quiet")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    result = {
        "benchmark": "inference_watch",
        "settings": {
            "model": args.model,
            "images": args.images,
            "prefetch": args.prefetch,
            "settle_seconds": args.settle,
            "poll_seconds": POLL_SECONDS,
        },
        "sizes": [measure(size, args) for size in args.sizes],
        "machine": describe_machine(),
    }
    publish(result, args.output)


if __name__ == "__main__":
    main()
