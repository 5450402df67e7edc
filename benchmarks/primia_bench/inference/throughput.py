"""Encrypted inference of many images in one call: images a second at several batch sizes.

Data owner, model owner and crypto provider are processes on this machine, as in `latency`, on bare
loopback. `in_a_row`: a call as a clinic makes it, all of it at once: from the end of the set-up to
the last scores, randomness dealt, fetched, sealed, opened and used meanwhile. `online`: of a batch
whose randomness waits in the store; the opening counts where it is waited for.

    python -m primia_bench.inference.throughput \
        --output benchmarks/results/inference_throughput.json

Each size is served in the ring that its calibration recommends. `cores_of_others` tells how much of
the machine other programs used meanwhile; `processor_seconds_of_an_image`, by role, is what is left
to compare where that is much.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from primia_bench.inference.latency import material, parties
from primia_bench.inference.latency.measure import ROLES, apart, say
from primia_bench.inference.latency.parties import PATIENCE, Task
from primia_bench.inference.latency.quiet import Others
from primia_bench.machine import describe_machine, publish, save
from primia_flwr.inference.service.data_owner import Session
from primia_flwr.inference.transport.connect import connect
from primia_flwr.provisioning.service import ServicePlan, provision_service

_FEW = 2  # blocks that wait, in a row


def data_owner(pipe: Connection, task: Task, batch: int, fetched: bool) -> None:
    """Have `task.images` batches classified; `fetched`: after all randomness has come."""
    parties.begin(task)
    own = task.credentials("data-owner")
    provider_port, model_port = pipe.recv()
    to_provider, _ = parties.keeping(own, provider_port)
    one = torch.from_numpy(np.load(task.material / "images.npy"))
    images = one[torch.arange(batch) % len(one)]
    session = Session(
        connect(f"127.0.0.1:{model_port}", own, expect="model-owner", timeout=PATIENCE),
        to_provider,
        own_fingerprint=own.own.fingerprint,
        batch=batch,
        batches=task.images,
        settings=task.settings("data-owner"),
    )
    online, wrong = [], 0.0
    plain = np.load(task.material / "logits.npy")[np.arange(batch) % len(one)]
    with session:
        if fetched:
            session.fetch_ahead()
            session.classify(images)
        pipe.send("begins")
        pipe.recv()
        others, started = Others(), time.monotonic()
        for _ in range(task.images - fetched):
            before = time.monotonic()
            answer = session.classify(images)
            online.append(time.monotonic() - before)
            wrong = max(wrong, float(np.abs(np.asarray(answer.scores) - plain).max()))
        seconds = time.monotonic() - started
        cores = others.cores()
    pipe.send(
        {
            "images_per_second": round(batch * (task.images - fetched) / seconds, 3),
            "seconds_of_a_batch": round(statistics.median(online), 3),
            "batches": task.images - fetched,
            "largest_logit_error": round(wrong, 6),
            "cores_of_others": cores,
            "peak_memory_gb": round(parties.peak_memory() / 1e9, 2),
        }
    )


def call(task: Task, batch: int, *, fetched: bool) -> dict[str, Any]:
    """Return the figures of one call."""
    context = multiprocessing.get_context("spawn")
    works = (parties.crypto_provider, parties.model_owner, data_owner)
    pipes, processes = [], []
    try:
        for work in works:
            ours, theirs = context.Pipe()
            more = (batch, fetched) if work is data_owner else ()
            process = context.Process(target=work, args=(theirs, task, *more), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        provider, model, data = pipes
        port = _heard(provider)
        model.send(port)
        data.send((port, _heard(model)))
        _heard(data)
        before = [_processor_seconds(process) for process in processes]
        data.send("go")
        found: dict[str, Any] = _heard(data)
        used = [
            _processor_seconds(process) - was
            for process, was in zip(processes, before, strict=True)
        ]
        images = batch * found["batches"]
        found["processor_seconds_of_an_image"] = {
            role: round(seconds / images, 4) for role, seconds in zip(ROLES, used, strict=True)
        }
        for pipe in (model, provider):
            pipe.send("stop")
            _heard(pipe)
        return found
    finally:
        for process in processes:
            process.join(5)
            process.kill()
            process.join()


def _processor_seconds(process: Any) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def _heard(pipe: Connection) -> Any:
    if not pipe.poll(PATIENCE):
        raise SystemExit(f"one of {', '.join(ROLES)} said nothing for {PATIENCE:.0f} s")
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"one of {', '.join(ROLES)} failed, see above") from None


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all sizes and batches, written after each."""
    result: dict[str, Any] = {
        "benchmark": "inference_throughput",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "rows": [],
        "machine": describe_machine(),
    }
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder:
        scratch = Path(folder)
        plan = ServicePlan("bench", "127.0.0.1", "127.0.0.1", ["clinic"], loopback=True)
        provision_service(plan, scratch / "service")
        bits = apart(material.make, scratch, args.model, args.sizes)
        for size, batch in ((size, batch) for size in args.sizes for batch in args.batches):
            row: dict[str, Any] = {"size": size, "batch": batch, "compare_bits": bits[size]}
            for name, fetched in (("online", True), ("in_a_row", False)):
                batches = max(2, -(-args.images // batch)) + fetched
                of_size, store = scratch / str(size), scratch / f"{size}-{batch}-{name}"
                few = 0 if fetched else _FEW
                task = Task(
                    scratch / "service", of_size, store, batches, args.threads, bits[size], few
                )
                row[name] = call(task, batch, fetched=fetched)
                say(f"{size} px, batch {batch}, {name}: {row[name]}")
            result["rows"].append(row)
            save(result, args.output)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64], help="pixels of a side")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--images", type=int, default=32, help="of a call, two batches at least")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(run(args), args.output)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
