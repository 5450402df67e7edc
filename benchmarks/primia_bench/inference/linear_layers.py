"""The linear layers of encrypted inference on a device, against 64-bit integers on the CPU.

Every layer of a network is multiplied once with random words: by PyTorch's int64 on the CPU
(`device=cpu`), and by limbs in float64 (`device=cuda`) on `--device`, weights there, values and
results in the CPU's memory. Medians of `--repeats`, after one unmeasured warm-up; results are
compared bit for bit.

    python -m primia_bench.inference.linear_layers --device cuda --output linear_layers.json

With `--device cpu` it times limbs on the CPU, which no setting of `primia` uses.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.arithmetic import limbs, ring
from primia_flwr.inference.lowering.lowering import lower
from primia_flwr.inference.plan import Linear, Plan
from primia_flwr.models.registry import build_model
from primia_flwr.training.device import pick_device


def measure(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    device = pick_device(args.device, key="--device")
    limbs.require_exact(device)
    return {
        "benchmark": "linear_layers",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "sizes": {str(size): measure_size(size, device, args) for size in args.sizes},
        "machine": describe_machine(),
    }


def measure_size(size: int, device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """Return seconds of all layers together, and by layer."""
    plan = plan_of(args.model, size, args.batch)
    layers = [measure_layer(plan, step, device, args.repeats) for step in plan.linears]
    whole = {way: sum(layer[way] for layer in layers) for way in ("int64_seconds", "limbs_seconds")}
    return {
        **{way: round(seconds, 5) for way, seconds in whole.items()},
        "limbs_to_int64": round(whole["limbs_seconds"] / whole["int64_seconds"], 2),
        "equal": all(layer["equal"] for layer in layers),
        "layers": layers,
    }


def plan_of(name: str, size: int, batch: int) -> Plan:
    model = build_model(ModelConfig(name=name), outputs=3, channels=1, seed=0, first_weights=False)
    return lower(model.eval(), (batch, 1, size, size)).plan


def measure_layer(plan: Plan, step: Linear, device: torch.device, repeats: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step.weight)
    value, weight = (
        torch.randint(-(2**63), 2**63 - 1, shape, generator=generator)
        for shape in (plan.openings[step.opening].shape, step.weight_shape)
    )
    placed = ring.place(weight, device)

    def by_limbs() -> Tensor:
        return limbs.product(value.to(device), placed, step.geometry).cpu()

    with torch.inference_mode():
        expected, int64 = timed(lambda: ring.product(value, weight, step.geometry), repeats)
        found, seconds = timed(by_limbs, repeats)
    return {
        "weight": list(step.weight_shape),
        "int64_seconds": round(int64, 6),
        "limbs_seconds": round(seconds, 6),
        "equal": torch.equal(found, expected),
    }


def timed(way: Callable[[], Tensor], repeats: int) -> tuple[Tensor, float]:
    """Return the result and the median of the seconds it takes."""
    result, taken = way(), []
    for _ in range(repeats):
        started = time.perf_counter()
        way()
        taken.append(time.perf_counter() - started)
    return result, statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="of the limbs: cuda, cuda:1, cpu")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(measure(args), args.output)


if __name__ == "__main__":
    main()
