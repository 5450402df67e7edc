"""How much memory each party's process takes for a session, beside the bound that is computed.

    python -m primia_bench.inference.memory --output benchmarks/results/inference_memory.json

`measured_gb` is the growth of a process from listening (of the data owner: from one image of 32
pixels) to its peak over a call of two batches; `bound_gb` what `crypto.memory` says before the
start. The bound must not be below, and the quotient says how much more careful it is.
"""

import argparse
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from primia_bench.inference.flood import write_images
from primia_bench.inference.latency import material
from primia_bench.inference.latency.measure import apart
from primia_bench.machine import describe_machine, publish
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.lowering import COMPARE_BITS, lower
from primia_flwr.inference.protocol.memory import GB, SessionMemory, dealing_bytes
from primia_flwr.models.saved import load_model
from primia_flwr.processes.room import available_bytes
from primia_flwr.trials.service import UNLIMITED, RunningService, command_line, running_service

BITS = (f"compare_bits={COMPARE_BITS}",)
CASES = (("resnet18", 64, 1), ("resnet18", 64, 4), ("simpleconv", 128, 2), ("vgg16", 64, 1))


def bounds(folder: Path, size: int, batch: int) -> dict[str, float]:
    """Return the bound of each party in GB."""
    model, card = load_model(folder)
    plan = lower(model, (1, card.channels, size, size)).plan
    batched = CorrelationSpec.of(replace(lower(model, (batch, card.channels, size, size)).plan))
    return {
        "data-owner": SessionMemory.of(ring.DATA_OWNER, plan).of_batch(batch) / GB,
        "model-owner": SessionMemory.of(ring.MODEL_OWNER, plan).of_batch(batch) / GB,
        "crypto-provider": dealing_bytes(batched) / GB,
    }


def peaks(folder: Path, images: Path, batch: int) -> dict[str, float]:
    """Return the peak of each party's process in GB, and what the two that listen have at first."""
    with (
        running_service(
            folder, options=(*UNLIMITED, f"max_batch={batch}", *BITS, "max_sessions=1")
        ) as service,
        tempfile.TemporaryDirectory() as output,
    ):
        first = {
            "model-owner at first": status_gb(service.model_owner.pid, "VmRSS"),
            "crypto-provider at first": status_gb(service.provider.pid, "VmRSS"),
        }
        clinic = _infer(service, images, Path(output), batch)
        return {
            **first,
            "data-owner": clinic,
            "model-owner": status_gb(service.model_owner.pid, "VmHWM"),
            "crypto-provider": status_gb(service.provider.pid, "VmHWM"),
        }


def _infer(service: RunningService, images: Path, output: Path, batch: int) -> float:
    words = command_line(
        "infer", f"server=localhost:{service.model_owner_port}", f"data.root={images}"
    )
    words += [
        f"kit={service.clinic_kit}",
        f"output={output / 'out'}",
        f"batch={batch}",
    ]
    words += [f"store.folder={service.folder}", "quiet=true"]
    call = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, code, used = os.wait4(call.pid, 0)
    if code:
        raise SystemExit(f"primia infer ended with {code}; see above")
    return used.ru_maxrss * 1024 / GB


def status_gb(pid: int, name: str) -> float:
    """Return a line of a process's status in GB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / GB
    raise SystemExit(f"process {pid} has no {name}")


def measure(name: str, size: int, batch: int, scratch: Path) -> dict[str, Any]:
    """Return measured and computed figures of one case."""
    folder = scratch / f"{name}-{size}-{batch}"
    apart(material.make, folder, name, [size, 32])
    apart(write_images, folder / "images", 2 * batch, size)
    apart(write_images, folder / "small", 1, 32)
    idle = peaks(folder / "32", folder / "small", 1)["data-owner"]
    found, bound = (
        peaks(folder / str(size), folder / "images", batch),
        bounds(folder / str(size), size, batch),
    )
    grown = {
        "data-owner": found["data-owner"] - idle,
        "model-owner": found["model-owner"] - found["model-owner at first"],
        "crypto-provider": found["crypto-provider"] - found["crypto-provider at first"],
    }
    return {
        "model": name,
        "size": size,
        "batch": batch,
        "measured_gb": {role: round(value, 3) for role, value in grown.items()},
        "bound_gb": {role: round(value, 3) for role, value in bound.items()},
        "holds": all(grown[role] <= bound[role] for role in grown),
        "quotient": {role: round(bound[role] / grown[role], 2) for role in grown},
    }


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="primia-memory-") as scratch:
        cases = [measure(*case, Path(scratch)) for case in CASES]
    result = {
        "cases": cases,
        "available_gb": round(available_bytes() / GB, 1),
        "machine": describe_machine(),
    }
    publish(result, args.output)


if __name__ == "__main__":
    main()
