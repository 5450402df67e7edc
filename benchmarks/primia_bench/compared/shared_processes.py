"""The three processes of the training on shares, on this machine over TLS; none is left behind."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from primia_bench.compared.shared_features import Set
from primia_bench.compared.shared_head import Plan
from primia_flwr.processes.children import Child, Children, free_port, is_listening, wait_until
from primia_flwr.provisioning.service import ServicePlan, provision_service
from primia_flwr.trials.service import command_line

DEALER, HOSPITALS = "crypto-provider", ("hospital", "model-owner")  # the second one listens
_START, _LONGEST = 120.0, 3600.0  # seconds


@dataclass(frozen=True)
class _Stage:
    """What all three processes are started from: kits by folder name, ports by who listens."""

    folder: Path
    ports: Mapping[str, int]
    kits: Mapping[str, Path]
    children: Children

    def start(self, name: str, command: list[str]) -> Child:
        """Start a process; one that listens has begun to when this returns."""
        log = self.folder / f"{name}.log"
        child = Child(name, command, log_file=log, environment=os.environ, folder=Path.cwd())
        self.children.add(child)
        if port := self.ports.get(name):
            _wait(child, lambda: is_listening("127.0.0.1", port), _START)
        return child

    def dealer(self) -> Child:
        """Start the product's crypto provider."""
        kit, address = self.kits[f"kit-{DEALER}"], f"127.0.0.1:{self.ports[DEALER]}"
        return self.start(DEALER, command_line("serve", DEALER, f"kit={kit}", f"listen={address}"))

    def hospital(self, name: str, own: Set, plan: Plan) -> Child:
        """Start a hospital, which finds its own features and labels in a file."""
        images, kit = self.folder / f"{name}.npz", self.kits[f"kit-{name}"]
        np.savez(images, features=own[0].numpy(), labels=own[1].numpy())
        words = [
            *(f"--kit={kit}", f"--images={images}", f"--plan={json.dumps(asdict(plan))}"),
            *(f"--port={self.ports[HOSPITALS[1]]}", f"--dealer={self.ports[DEALER]}"),
            f"--output={self.result(name)}",
        ]
        program, switch, *_ = command_line()
        return self.start(name, [program, switch, "primia_bench.compared.shared_party", *words])

    def result(self, name: str) -> Path:
        """Return where a hospital writes what it has found."""
        return self.folder / f"{name}.json"


def train_over_tls(plan: Plan, hospitals: tuple[Set, Set]) -> tuple[list[dict[str, Any]], float]:
    """Train between two hospitals; return what each has found, and the dealer's processor seconds.

    Raises
    ------
    FederationError
        If a process fails; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="primia-shared-") as scratch, Children() as children:
        folder, ports = Path(scratch), {HOSPITALS[1]: free_port(), DEALER: free_port()}
        stage = _Stage(folder, ports, _kits(folder / "service", ports), children)
        dealer = psutil.Process(stage.dealer().pid)
        began = _busy(dealer)
        named = reversed(list(zip(HOSPITALS, hospitals, strict=True)))
        for party in [stage.hospital(name, own, plan) for name, own in named]:
            _wait(party, stage.result(party.name).is_file, _LONGEST)
        took = _busy(dealer) - began
        found = [json.loads(stage.result(name).read_text(encoding="utf-8")) for name in HOSPITALS]
        return found, took


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _kits(folder: Path, ports: Mapping[str, int]) -> Mapping[str, Path]:
    plan = ServicePlan(
        name="shares",
        model_owner="localhost",
        crypto_provider="localhost",
        data_owners=[HOSPITALS[0]],
        model_owner_port=ports[HOSPITALS[1]],
        crypto_provider_port=ports[DEALER],
        loopback=True,
    )
    return provision_service(plan, folder).kits


def _wait(child: Child, ready: Callable[[], bool], timeout: float) -> None:
    wait_until(ready, what=f"what the {child.name} was to do", timeout=timeout, child=child)
