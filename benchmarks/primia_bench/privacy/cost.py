"""What differentially private training costs: images per second and memory of each engine.

ResNet-18 with group norm, one channel, one view a unit. A step is a forward and a backward pass
over one batch and a step of SGD; private: also clipping and noise on all parameters. Every way
runs in a process of its own, in turn, `--repeats` times; the fastest step counts. Memory is the
largest that the process held.

    python -m primia_bench.privacy.cost --output benchmarks/results/dp_cost.json

`ratio_processor` is the processor time of a step over that of plain training, `ratio_wall` the
time on the clock: on a machine that does other work the first one is steadier, and only with
`--threads 1`, as threads that wait for each other count as busy. `opacus` is Opacus
with hooks, `opacus_ghost` its ghost clipping; both with our noise, so that only clipping differs.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.models import build_model
from primia_flwr.privacy.clipping import ENGINES, Engine
from primia_flwr.privacy.mechanisms.dp_step import Mechanism, NoisyGradient

PLAIN = "plain"
WAYS = (PLAIN, *ENGINES, "opacus_ghost")
LIMIT = 3.0  # of ratio, for our engine
Batch = tuple[Tensor, Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def build(way: str, model: nn.Module) -> Engine:
    if way == "opacus_ghost":
        from primia_flwr.privacy.clipping.opacus_reference import OpacusGhostEngine

        return OpacusGhostEngine(model, cross_entropy, clip_norm=1.0)
    return ENGINES[way](model, cross_entropy, clip_norm=1.0)


def stepper(way: str, model: nn.Module, batch: Batch) -> Callable[[], None]:
    """Return one training step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    if way == PLAIN:

        def plain() -> None:
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(batch[0]), batch[1]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return plain
    mechanism = Mechanism(clip_norm=1.0, noise_multiplier=1.0, expected_batch=len(batch[0]))
    noisy = NoisyGradient(build(way, model), mechanism=mechanism)

    def private() -> None:
        noisy.set_gradients([batch])
        optimizer.step()

    return private


def measure(way: str, args: argparse.Namespace, size: int) -> dict[str, Any]:
    """Time steps in this process; the first one warms up."""
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = ModelConfig(norm="group", weight_standardisation=args.weight_standardisation)
    model = build_model(cfg, outputs=3, channels=1, seed=0).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(args.batch_size, 1, size, size).to(memory_format=torch.channels_last)
    step = stepper(way, model, (images, torch.randint(0, 3, (args.batch_size,))))
    step()
    processor, wall = [], []
    for _ in range(args.steps):
        started = time.process_time(), time.perf_counter()
        step()
        processor.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"processor_s": min(processor), "wall_s": min(wall), "peak_bytes": peak}


def measure_apart(way: str, args: argparse.Namespace, size: int) -> dict[str, Any]:
    """Do so in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "primia_bench.privacy.cost",
        "--worker",
        way,
        "--sizes",
        str(size),
    ]
    command += ["--batch-size", str(args.batch_size), "--steps", str(args.steps)]
    command += ["--threads", str(args.threads)]
    if args.weight_standardisation:
        command.append("--weight-standardisation")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def table(args: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    """Measure all ways at one image size, in turn."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in args.ways}
    for _ in range(args.repeats):
        for way in args.ways:
            found[way].append(measure_apart(way, args, size))
            sys.stderr.write(f"{size} {way} {found[way][-1]}\n")
    best = {
        way: {key: min(run[key] for run in runs) for key in runs[0]} for way, runs in found.items()
    }
    return [_row(way, best[way], best[PLAIN], args.batch_size) for way in args.ways]


def _row(way: str, own: dict[str, Any], plain: dict[str, Any], batch_size: int) -> dict[str, Any]:
    return {
        "way": way,
        "images_per_s": round(batch_size / own["wall_s"], 1),
        "processor_ms_an_image": round(1000 * own["processor_s"] / batch_size, 2),
        "peak_mib": round(own["peak_bytes"] / 2**20),
        "ratio_processor": round(own["processor_s"] / plain["processor_s"], 2),
        "ratio_wall": round(own["wall_s"] / plain["wall_s"], 2),
        "memory_ratio": round(own["peak_bytes"] / plain["peak_bytes"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 112])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as PyTorch takes")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--weight-standardisation", action="store_true")
    parser.add_argument("--output", default="")
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        sys.stdout.write(json.dumps(measure(args.worker, args, args.sizes[0])))
        return
    if PLAIN not in args.ways:
        parser.error("--ways needs plain: the others are compared with it")
    sizes = {str(size): table(args, size) for size in args.sizes}
    ours = [row for rows in sizes.values() for row in rows if row["way"] == "ghost"]
    result = {
        "what": "ResNet-18 with group norm, one channel, fp32, channels_last, one view a unit",
        "weight_standardisation": args.weight_standardisation,
        "batch_size": args.batch_size,
        "threads": args.threads or torch.get_num_threads(),
        "machine": describe_machine(),
        "sizes": sizes,
        "limit_ratio": LIMIT,
        "within_limit": all(row["ratio_processor"] <= LIMIT for row in ours),
    }
    publish(result, args.output)


if __name__ == "__main__":
    main()
