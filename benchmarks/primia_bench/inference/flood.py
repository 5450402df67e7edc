"""What two clinics notice of a third one that floods the service with silent lines.

    python -m primia_bench.inference.flood --output benchmarks/results/inference_flood.json

Model owner, crypto provider, the flood and both clinics are processes of their own, over TLS on
loopback. `seconds` is a whole `primia infer`, from its start to its end; `held` how many lines the
flooding clinic had open at most, of those that it asked for; `wanted` how many at once.
"""

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from primia_bench.inference.latency import material
from primia_bench.inference.latency.measure import apart
from primia_bench.machine import describe_machine, publish
from primia_flwr.errors import PrimiaError
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import Role, load_credentials
from primia_flwr.trials.service import UNLIMITED, RunningService, command_line, running_service

FLOOD, CLINICS = "clinic-flood", ("clinic-a", "clinic-b")
OPTIONS = (*UNLIMITED, "max_sessions=4")
WANTED = 40  # silent lines at each server, more than either has places
STRANGERS = 64  # silent connections without a certificate at each server
_AGAIN = 1.0  # seconds after which a line that ended is opened anew


@contextlib.contextmanager
def flooding(
    service: RunningService, *, again: float = _AGAIN
) -> Iterator["subprocess.Popen[str]"]:
    """Flood both servers from a process of its own; it prints what it held when it is told to end.

    It has been turned away at least once when this begins. `again`: seconds after which a line that
    ended is opened anew.
    """
    ports = str(service.model_owner_port), str(service.provider_port)
    words = (sys.executable, "-m", "primia_bench.inference.flood", "--again", str(again), "--flood")
    with subprocess.Popen(
        [*words, str(service.kit(FLOOD)), *ports],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as flood:
        try:
            assert flood.stdout is not None
            flood.stdout.readline()
            yield flood
        finally:
            if flood.poll() is None:
                flood.kill()


def held(flood: "subprocess.Popen[str]") -> dict[str, Any]:
    """End a flood and return its figures."""
    out, _ = flood.communicate("", timeout=60)
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures


class Flood:
    """Keeps as many silent lines open to one server as it gets."""

    def __init__(self, kit: Path, role: Role, port: int, again: float) -> None:
        self._credentials, self._role, self._port = load_credentials(kit), role, port
        self._again = again
        self._lock = threading.Lock()
        self._open = 0
        self.most = self.refused = self.refused_as_a_stranger = 0
        for target, count in ((self._party, WANTED), (self._stranger, STRANGERS)):
            for _ in range(count):
                threading.Thread(target=target, daemon=True).start()

    def _party(self) -> None:
        while True:
            try:
                line = connect(
                    f"localhost:{self._port}", self._credentials, expect=self._role, timeout=20
                )
            except PrimiaError:
                self.refused += 1
            else:
                self._count(1)
                with line, contextlib.suppress(PrimiaError):
                    line.timeout = 3600
                    line.receive(1, at_most=0)  # and says nothing
                self._count(-1)
            time.sleep(self._again)

    def _stranger(self) -> None:
        while True:
            address = "127.0.0.1", self._port
            with contextlib.suppress(OSError), socket.create_connection(address, 20) as line:
                line.settimeout(3600)
                line.recv(1)
            self.refused_as_a_stranger += 1
            time.sleep(self._again)

    def _count(self, change: int) -> None:
        with self._lock:
            self._open += change
            self.most = max(self.most, self._open)


def flood_until_told(kit: Path, model_owner: int, provider: int, again: float) -> None:
    """Flood until standard input ends."""
    floods = {
        "model_owner": Flood(kit, "model-owner", model_owner, again),
        "crypto_provider": Flood(kit, "crypto-provider", provider, again),
    }
    while not all(flood.refused and flood.most for flood in floods.values()):
        time.sleep(0.05)
    print("flooding", flush=True)
    sys.stdin.read()
    figures = {
        name: {
            "wanted": WANTED,
            "held": flood.most,
            "refused": flood.refused,
            "strangers": STRANGERS,
            "strangers_turned_away": flood.refused_as_a_stranger,
        }
        for name, flood in floods.items()
    }
    print(json.dumps(figures), flush=True)


def served(
    service: RunningService, images: Path, scratch: Path, *, clinics: Sequence[str] = CLINICS
) -> list[float]:
    """Have the clinics' images classified at the same time; return each one's seconds."""
    started, calls = time.monotonic(), {}
    for name in clinics:
        words = command_line("infer", f"server=localhost:{service.model_owner_port}", "quiet=true")
        words += [f"kit={service.kit(name)}", f"data.root={images}", f"output={scratch / name}"]
        words += [f"store.folder={service.folder}"]
        calls[name] = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    seconds: dict[str, float] = {}
    while len(seconds) < len(calls):
        for name, call in calls.items():
            if name not in seconds and call.poll() is not None:
                if call.returncode:
                    raise SystemExit(f"{name} was not served: exit code {call.returncode}")
                seconds[name] = round(time.monotonic() - started, 2)
        time.sleep(0.02)
    return list(seconds.values())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures with and without the flood."""
    with tempfile.TemporaryDirectory(prefix="primia-flood-") as folder:
        scratch = Path(folder)
        apart(material.make, scratch, args.model, [args.size])
        images = scratch / "images"
        apart(write_images, images, args.images, args.size)
        model, owners = scratch / str(args.size), (FLOOD, *CLINICS)
        with running_service(model, options=OPTIONS, data_owners=owners) as service:
            quiet = [
                served(service, images, scratch / f"quiet-{number}")
                for number in range(args.repeats)
            ]
            with flooding(service) as flood:
                flooded = [
                    served(service, images, scratch / f"flood-{number}")
                    for number in range(args.repeats)
                ]
                figures = held(flood)
    return {
        "model": args.model,
        "size": args.size,
        "images_each": args.images,
        "clinics_served": len(CLINICS),
        "seconds_without_flood": _summary(quiet),
        "seconds_with_flood": _summary(flooded),
        "flood": figures,
        "machine": describe_machine(),
    }


def _summary(runs: Sequence[Sequence[float]]) -> dict[str, Any]:
    flat = [seconds for run in runs for seconds in run]
    return {"median": statistics.median(flat), "largest": max(flat), "all": runs}


def write_images(folder: Path, count: int, size: int) -> None:
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def main() -> None:
    """Measure, or be the flood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="simpleconv")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default="")
    parser.add_argument("--again", type=float, default=_AGAIN, help="seconds, of the flood")
    parser.add_argument("--flood", nargs=3, metavar=("KIT", "PORT", "PORT"), help="be the flood")
    args = parser.parse_args()
    if args.flood:
        kit, owner, provider = args.flood
        flood_until_told(Path(kit), int(owner), int(provider), args.again)
        return
    publish(measure(args), args.output)


if __name__ == "__main__":
    main()
