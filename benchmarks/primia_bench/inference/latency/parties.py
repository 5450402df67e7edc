"""The three parties of `protocol=fss`, each the main function of a process of its own.

A party talks to the benchmark over a pipe: it says its port, waits for a word, and returns what it
has measured. Everything between the parties goes over TLS, with the kits of a provisioned service.
"""

import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primia_flwr.inference.protocol.session import Settings
from primia_flwr.inference.service.data_owner import Session
from primia_flwr.inference.service.model_owner import ServedModel, Server
from primia_flwr.inference.service.provider import Provider
from primia_flwr.inference.service.query_log import QueryLog
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import Credentials, Role, load_credentials
from primia_flwr.inference.transport.listener import Listener
from primia_flwr.models.card import weights_digest
from primia_flwr.models.saved import load_model

PATIENCE = 1800.0  # seconds; the slowest line moves 2 GB
COMPARE_BITS = 32
MAX_BATCH = 32


@dataclass(frozen=True)
class Task:
    """What a party needs to know.

    `service`: the kits; `material`: model and images; `store`: where blocks wait. `images` are
    measured after one that warms up. `threads`: of PyTorch and of the comparisons. `compare_bits`:
    the ring of every comparison. `prefetch`: blocks that wait at most; 0: all of them.
    """

    service: Path
    material: Path
    store: Path
    images: int
    threads: int
    compare_bits: int = COMPARE_BITS
    prefetch: int = 0

    def credentials(self, role: Role) -> Credentials:
        """Return those of a party's kit."""
        kit = "kit-clinic" if role == "data-owner" else f"kit-{role}"
        return load_credentials(self.service / kit)

    def pictures(self) -> Tensor:
        """Return the images, (images + 1, 1, size, size) float."""
        return torch.from_numpy(np.load(self.material / "images.npy"))[: self.images + 1]

    def settings(self, role: Role) -> Settings:
        """Return settings with which every block is fetched before the first image, or a few."""
        return Settings(
            prefetch=self.prefetch or self.images + 1,
            store=self.store / role,
            timeout=PATIENCE,
            patience=PATIENCE,
            threads=self.threads,
        )


def crypto_provider(pipe: Connection, task: Task) -> None:
    """Deal until told to stop."""
    begin(task)
    provider = Provider(patience=PATIENCE)

    def serve(listener: Listener) -> None:
        for channel in listener:
            threading.Thread(target=provider.serve, args=(channel,), daemon=True).start()

    own = task.credentials("crypto-provider")
    with Listener(
        "127.0.0.1:0", own, accept=["data-owner", "model-owner"], timeout=PATIENCE
    ) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        pipe.send(listener.port)
        pipe.recv()
    pipe.send({"peak_memory": peak_memory()})


def model_owner(pipe: Connection, task: Task) -> None:
    """Serve one session."""
    begin(task)
    own = task.credentials("model-owner")
    model, card = load_model(task.material)
    served = ServedModel(model, card, weights_digest(task.material), task.compare_bits)
    served.lowered(1)
    to_provider, opened = keeping(own, pipe.recv())
    server = Server(
        served,
        to_provider,
        QueryLog(task.store / "queries.jsonl", limit=10**6),
        own_fingerprint=own.own.fingerprint,
        settings=task.settings("model-owner"),
        max_batch=MAX_BATCH,
    )
    with Listener("127.0.0.1:0", own, accept=["data-owner"], timeout=PATIENCE) as listener:
        pipe.send(listener.port)
        server.serve(next_of(listener))
    pipe.recv()
    pipe.send({"dealt": opened[0].counts.bytes_received, "peak_memory": peak_memory()})


def data_owner(pipe: Connection, task: Task) -> None:
    """Fetch all randomness, warm up, wait for the line to be shaped, and have images classified."""
    begin(task)
    own, images = task.credentials("data-owner"), task.pictures()
    provider_port, model_port = pipe.recv()
    to_provider, _ = keeping(own, provider_port)
    session = Session(
        connect(f"127.0.0.1:{model_port}", own, expect="model-owner", timeout=PATIENCE),
        to_provider,
        own_fingerprint=own.own.fingerprint,
        batch=1,
        batches=len(images),
        settings=task.settings("data-owner"),
    )
    with session:
        started = time.monotonic()
        session.fetch_ahead()
        fetched = time.monotonic() - started
        session.classify(images[:1])
        pipe.send("ready")
        pipe.recv()
        rows = [_classify(session, image[None]) for image in images[1:]]
        pipe.send("done")
    pipe.send(
        {
            "images": rows,
            "exchanges": session.plan.flights,
            "dealt": session.bytes_dealt,
            "fetch_seconds": fetched,
            "set_up_seconds": session.set_up_seconds,
            "set_up_bytes": session.set_up_bytes,
            "peak_memory": peak_memory(),
        }
    )


def _classify(session: Session, image: Tensor) -> dict[str, Any]:
    started = time.monotonic()
    answer = session.classify(image)
    if answer.scores is None:
        raise SystemExit("an image has no scores, and nothing was audited")
    return {
        "seconds": answer.seconds,
        "opening_seconds": time.monotonic() - started - answer.seconds,
        "sent": answer.bytes_sent,
        "received": answer.bytes_received,
        "scores": answer.scores[0].tolist(),
    }


def begin(task: Task) -> None:
    """Take as many threads as agreed."""
    torch.set_num_threads(task.threads)


def keeping(own: Credentials, port: int) -> tuple[Callable[[], Channel], list[Channel]]:
    """Return what opens channels to the crypto provider, and the list of those it has opened."""
    opened: list[Channel] = []

    def to_provider() -> Channel:
        address = f"127.0.0.1:{port}"
        opened.append(connect(address, own, expect="crypto-provider", timeout=PATIENCE))
        return opened[-1]

    return to_provider, opened


def next_of(listener: Listener) -> Channel:
    """Return the channel to the next party that comes."""
    channel = listener.accept(PATIENCE)
    if channel is None:
        raise SystemExit(f"nobody came in {PATIENCE:.0f} s")
    return channel


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had, as far as the system knows.

    On Linux that of this program alone: `ru_maxrss` also has what the starting process had.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10
