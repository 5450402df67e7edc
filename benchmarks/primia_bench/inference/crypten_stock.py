"""Stock CrypTen protocols, as shipped and over our links: the yardstick of encrypted inference.

ResNet-18, one grey image, two parties (and a dealer) on this machine's loopback:

- `as shipped`: CrypTen 0.4.1 over gloo in two processes, `crypten.init()` with its environment
  variables, first party as dealer, MT19937, no TLS, both parties and the dealer one trust domain;
- `protocol=crypten`: the same protocols over mutually authenticated TLS, a trusted dealer in a
  third process, masks from AES, the logits to the data owner alone.

    python -m primia_bench.inference.crypten_stock --output benchmarks/results/crypten_stock.json

`seconds`: at the data owner, from the image to the logits, the median of `--repeats` computations
after one that warms up; triples are made while it waits, in both kinds. `cpu_seconds`: of its
processor, for machines that do something else besides. `rounds`: calls of a
collective, as CrypTen counts them; over our links, frames that the model owner sent to the data
owner but for the handshake. `megabytes_sent`: per party; as shipped, half of what CrypTen counts,
which counts both directions of an exchange. `max_abs_error`: of the logits, against the plain
model. Each process has `--threads` threads.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from primia_bench.machine import describe_machine, publish
from primia_flwr.config.experiment.training import ModelConfig
from primia_flwr.inference.crypten.dealer import serve_dealer
from primia_flwr.inference.crypten.door import crypten
from primia_flwr.inference.crypten.program import fold, infer, run_data_owner, run_model_owner
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import load_credentials
from primia_flwr.inference.transport.listener import Listener
from primia_flwr.models import build_model
from primia_flwr.provisioning.service import ServicePlan, provision_service

TIMEOUT = 300.0
SHIPPED, OURS = "as shipped", "protocol=crypten"
_DEALER_KIT, _MODEL_KIT, _DATA_KIT = "kit-crypto-provider", "kit-model-owner", "kit-clinic"
# Set by `crypten.init` where they are not in the environment.
_VARIABLES = {"DISTRIBUTED_BACKEND": "gloo", "WORLD_SIZE": "2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--only", choices=(SHIPPED, OURS), nargs="+", default=[SHIPPED, OURS])
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    results = {kind: measure(kind, args) for kind in args.only}
    document = {
        "benchmark": "crypten_stock",
        "settings": {k: v for k, v in vars(args).items() if k != "output"},
        "kinds": results,
        "machine": describe_machine(),
    }
    publish(document, args.output)


def measure(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one kind."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="primia-bench-") as folder, context.Manager() as shared:
        found = shared.dict()
        processes = [
            context.Process(target=work, args=(Path(folder), args, found))
            for work in _PROCESSES[kind]
        ]
        if kind == OURS:
            plan = ServicePlan("bench", "127.0.0.1", "127.0.0.1", ["clinic"], loopback=True)
            provision_service(plan, Path(folder) / "service")
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise SystemExit(f"{kind}: a party failed, see above")
        return dict(found)


def model_and_image(args: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    """Return the model owner's model and the data owner's image, both always the same."""
    cfg = ModelConfig(name=args.model)
    model = build_model(cfg, outputs=3, channels=1, seed=1, first_weights=False)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():  # statistics as after training, so that logits are of size 1
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.reset_running_stats()
            module.momentum = None
    batch = torch.randn(32, 1, args.size, args.size, generator=generator)
    with torch.no_grad():
        model.train()(batch)
    return model.eval(), batch[:1]


Clock = tuple[float, float]  # wall time and this process' processor time, seconds


def now() -> Clock:
    """Return both clocks."""
    return time.perf_counter(), time.process_time()


def summary(
    times: list[tuple[Clock, Clock]], logits: Tensor, args: argparse.Namespace
) -> dict[str, Any]:
    """Return what the data owner knows: the first computation warms up."""
    model, image = model_and_image(args)
    with torch.inference_mode():
        plain = model(image)
    seconds, cpu = ([end[i] - start[i] for start, end in times] for i in (0, 1))
    return {
        "seconds": round(statistics.median(seconds[1:]), 3),
        "all_seconds": [round(s, 3) for s in seconds],
        "cpu_seconds": round(statistics.median(cpu[1:]), 3),
        "max_abs_error": float((logits - plain).abs().max()),
        "logits": [round(float(v), 4) for v in plain.flatten()],
    }


# --- As shipped --------------------------------------------------------------------------------


def shipped(rank: int, folder: Path, args: argparse.Namespace, found: Any) -> None:
    """Be one of two parties over gloo."""
    torch.set_num_threads(args.threads)
    os.environ.update(_VARIABLES, RANK=str(rank), RENDEZVOUS=f"file://{folder}/rendezvous")
    crypten.init()
    crypten.cfg.communicator.verbose = True
    model, image = model_and_image(args)
    graph, times = fold(model), []
    for _ in range(args.repeats + 1):
        crypten.reset_communication_stats()
        start = now()
        with crypten.no_grad():
            logits = infer(graph, image)
        times.append((start, now()))
    counted = crypten.communicator.get().get_communication_stats()
    if logits is not None:
        found.update(
            summary(times, logits, args),
            rounds=counted["rounds"],
            megabytes_sent=round(counted["bytes"] / 2e6, 1),
        )
    crypten.uninit()


def shipped_first(folder: Path, args: argparse.Namespace, found: Any) -> None:
    """Be party 0, who makes the triples."""
    shipped(0, folder, args, found)


def shipped_second(folder: Path, args: argparse.Namespace, found: Any) -> None:
    """Be party 1."""
    shipped(1, folder, args, found)


# --- Over our links ----------------------------------------------------------------------------


def dealer(folder: Path, args: argparse.Namespace, found: Any) -> None:
    """Deal for one computation after the other."""
    torch.set_num_threads(args.threads)
    own = load_credentials(folder / "service" / _DEALER_KIT)
    with Listener(
        "127.0.0.1:0", own, accept=["data-owner", "model-owner"], timeout=TIMEOUT
    ) as listener:
        _announce(folder / "dealer", listener.port)
        for _ in range(args.repeats + 1):
            links = {link.peer.role: link for link in (_next(listener), _next(listener))}
            found["triples"] = serve_dealer(links["data-owner"], links["model-owner"])
            for link in links.values():
                link.close()


def model_owner(folder: Path, args: argparse.Namespace, found: Any) -> None:
    """Serve one computation after the other."""
    torch.set_num_threads(args.threads)
    own = load_credentials(folder / "service" / _MODEL_KIT)
    model, image = model_and_image(args)
    with Listener("127.0.0.1:0", own, accept=["data-owner"], timeout=TIMEOUT) as listener:
        _announce(folder / "model", listener.port)
        for _ in range(args.repeats + 1):
            with (
                _next(listener) as other,
                connect(_address(folder / "dealer"), own, expect="crypto-provider") as third,
            ):
                third.timeout = TIMEOUT
                run_model_owner(other, third, model, tuple(image.shape))
                found["rounds"] = other.counts.frames_sent - 1
                found["megabytes_sent"] = round(other.counts.bytes_sent / 1e6, 1)
                found["megabytes_from_dealer"] = round(third.counts.bytes_received / 1e6, 1)


def data_owner(folder: Path, args: argparse.Namespace, found: Any) -> None:
    """Have one image classified again and again."""
    torch.set_num_threads(args.threads)
    own = load_credentials(folder / "service" / _DATA_KIT)
    architecture = build_model(
        ModelConfig(name=args.model), outputs=3, channels=1, seed=2, first_weights=False
    )
    _, image = model_and_image(args)
    times = []
    for _ in range(args.repeats + 1):
        with (
            connect(_address(folder / "model"), own, expect="model-owner") as other,
            connect(_address(folder / "dealer"), own, expect="crypto-provider") as third,
        ):
            other.timeout = third.timeout = TIMEOUT
            start = now()
            logits = run_data_owner(other, third, architecture, image)
            times.append((start, now()))
    found.update(summary(times, logits, args))


def _next(listener: Listener) -> Channel:
    channel = listener.accept(TIMEOUT)
    if channel is None:
        raise SystemExit(f"nobody came in {TIMEOUT:.0f} s")
    return channel


def _announce(file: Path, port: int) -> None:
    file.with_suffix(".new").write_text(f"127.0.0.1:{port}", encoding="utf-8")
    file.with_suffix(".new").rename(file)


def _address(file: Path) -> str:
    for _ in range(600):
        if file.is_file():
            return file.read_text(encoding="utf-8")
        time.sleep(0.1)
    raise SystemExit(f"{file.name}: no address in a minute")


_PROCESSES: dict[str, list[Callable[[Path, argparse.Namespace, Any], None]]] = {
    SHIPPED: [shipped_first, shipped_second],
    OURS: [dealer, model_owner, data_owner],
}

if __name__ == "__main__":
    main()
