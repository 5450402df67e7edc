"""Measure one cell: three processes, one line between the two that compute."""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from primia_bench.inference.latency import crypten_parties, parties
from primia_bench.inference.latency.cells import CRYPTEN, FSS, Cell
from primia_bench.inference.latency.parties import PATIENCE, Task
from primia_bench.inference.latency.quiet import Others
from tests.relay import Relay, Shape

ROLES = ("crypto-provider", "model-owner", "data-owner")
_START = 120.0  # seconds for a process to import what it needs
_MODULES: dict[str, Any] = {FSS: parties, CRYPTEN: crypten_parties}


@dataclass(frozen=True)
class Party:
    """A running process and the pipe to it."""

    name: str
    pipe: Connection

    def poll(self, patience: float = PATIENCE) -> Any:
        """Return what it says next."""
        try:
            if self.pipe.poll(patience):
                return self.pipe.recv()
        except EOFError:
            raise SystemExit(f"the {self.name} failed, see above") from None
        raise SystemExit(f"the {self.name} said nothing for {patience:.0f} s")


def measure(
    cell: Cell,
    service: Path,
    material: Path,
    *,
    images: int,
    threads: int,
    compare_bits: int = parties.COMPARE_BITS,
) -> dict[str, Any]:
    """Return the figures of one cell."""
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
        store = Path(folder)
        task = Task(service, material, store, cell.images(images), threads, compare_bits)
        with _running(_MODULES[cell.protocol], task) as (provider, model, data):
            provider_port = provider.poll(_START)
            model.pipe.send(provider_port)
            with Relay(model.poll(_START)) as relay:
                target = relay.port if cell.rate else relay.target
                data.pipe.send((provider_port, target))
                data.poll()
                stored = {role: _block_bytes(store / role) for role in ROLES[1:]}
                os.sync()  # what was stored goes to the disk now, not while the clock runs
                if cell.rate:
                    relay.shape = Shape(cell.delay / 1e3, cell.rate * 1e6 / 8)
                others = Others()
                data.pipe.send("go")
                data.poll()
                cores = others.cores()
                found = {"data-owner": data.poll()}
                for party in (model, provider):
                    party.pipe.send("stop")
                    found[party.name] = party.poll()
    plain = np.load(material / "logits.npy")[1 : task.images + 1]
    return {
        **cell.key,
        **_online(found, plain),
        "preprocessing": _preprocessing(cell, task.images + 1, found, stored),
        "peak_memory_gb": {role: round(found[role]["peak_memory"] / 1e9, 3) for role in ROLES},
        "threads": threads,
        "cores_of_others_online": cores,
    }


def _online(found: dict[str, Any], plain: Any) -> dict[str, Any]:
    images = found["data-owner"]["images"]
    scores = np.array([image["scores"] for image in images])
    seconds = [image["seconds"] for image in images]
    return {
        "online_seconds": round(statistics.median(seconds), 3),
        "all_online_seconds": [round(value, 3) for value in seconds],
        "exchanges": found["data-owner"]["exchanges"],
        "megabytes_sent": {
            "data-owner": round(max(image["sent"] for image in images) / 1e6, 3),
            "model-owner": round(max(image["received"] for image in images) / 1e6, 3),
        },
        "largest_logit_error": round(float(np.abs(scores - plain).max()), 6),
        "same_class": f"{int((scores.argmax(1) == plain.argmax(1)).sum())} of {len(images)}",
    }


def _preprocessing(
    cell: Cell, blocks: int, found: dict[str, Any], stored: dict[str, int]
) -> dict[str, Any]:
    """Return what came from the crypto provider for one image."""
    data, model = found["data-owner"], found["model-owner"]
    if cell.protocol == CRYPTEN:
        return {
            "megabytes": _by_party(data["dealt"], model["dealt"], 1),
            "seconds_waited_online": round(model["waited_for_dealer"], 3),
        }
    return {
        "megabytes": _by_party(data["dealt"], model["dealt"], blocks),
        "megabytes_stored": {role: round(size / 1e6, 3) for role, size in stored.items()},
        "seconds": round(data["fetch_seconds"] / blocks, 3),
        "opening_seconds": round(
            statistics.median(image["opening_seconds"] for image in data["images"]), 3
        ),
        "set_up_megabytes": round(data["set_up_bytes"] / 1e6, 3),
        "set_up_seconds": round(data["set_up_seconds"], 3),
    }


def _by_party(data: int, model: int, blocks: int) -> dict[str, float]:
    found = {"data-owner": data, "model-owner": model}
    return {role: round(size / blocks / 1e6, 3) for role, size in found.items()}


def _block_bytes(folder: Path) -> int:
    """Return the size of the largest block that waits; the last one may not be whole yet."""
    return max((file.stat().st_size for file in folder.glob("*/block-*")), default=0)


@contextmanager
def _running(module: Any, task: Task) -> Iterator[list[Party]]:
    """Start the parties, in the order of `ROLES`; none is left behind."""
    context = get_context("spawn")
    processes, running = [], []
    try:
        for role in ROLES:
            ours, theirs = context.Pipe()
            work = getattr(module, role.replace("-", "_"))
            process = context.Process(target=work, args=(theirs, task), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            running.append(Party(role, ours))
        yield running
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            process.kill()
            process.join()


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, whose memory goes with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def say(line: str) -> None:
    """Tell the user what goes on."""
    print(line, file=sys.stderr, flush=True)
