"""The three parties of `protocol=crypten`, each the main function of a process of its own.

Every computation has new links. Triples are made while it runs: the model owner asks the dealer
for a share of each product, so what the dealer takes is part of the seconds online.
"""

import time
from multiprocessing.connection import Connection
from typing import Any

from primia_bench.inference.latency.parties import (
    PATIENCE,
    Task,
    begin,
    keeping,
    next_of,
    peak_memory,
)
from primia_flwr.inference.crypten.dealer import serve_dealer
from primia_flwr.inference.crypten.program import run_data_owner, run_model_owner
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.listener import Listener
from primia_flwr.models import build_model
from primia_flwr.models.saved import load_model

__all__ = ["crypto_provider", "data_owner", "model_owner"]


class _Watch:
    """Counts a channel's exchanges, and knows when the first began; or times its waiting."""

    def __init__(self, channel: Channel) -> None:
        self.exchanges, self.started, self.waited = 0, 0.0, 0.0
        self._exchange, self._receive = channel.exchange, channel.receive
        channel.exchange = self._counted  # type: ignore[method-assign]
        channel.receive = self._timed  # type: ignore[method-assign]

    def _counted(self, *arguments: Any, **options: Any) -> bytearray:
        if not self.exchanges:
            self.started = time.monotonic()
        self.exchanges += 1
        return self._exchange(*arguments, **options)

    def _timed(self, *arguments: Any, **options: Any) -> bytearray:
        start = time.monotonic()
        try:
            return self._receive(*arguments, **options)
        finally:
            self.waited += time.monotonic() - start


def crypto_provider(pipe: Connection, task: Task) -> None:
    """Deal for one computation after the other."""
    begin(task)
    own = task.credentials("crypto-provider")
    with Listener(
        "127.0.0.1:0", own, accept=["data-owner", "model-owner"], timeout=PATIENCE
    ) as listener:
        pipe.send(listener.port)
        for _ in range(task.images + 1):
            links = {link.peer.role: link for link in (next_of(listener), next_of(listener))}
            serve_dealer(links["data-owner"], links["model-owner"])
            for link in links.values():
                link.close()
    pipe.recv()
    pipe.send({"peak_memory": peak_memory()})


def model_owner(pipe: Connection, task: Task) -> None:
    """Serve one computation after the other."""
    begin(task)
    own = task.credentials("model-owner")
    model, card = load_model(task.material)
    to_provider, opened = keeping(own, pipe.recv())
    shape = (1, card.channels, card.image_size, card.image_size)
    with Listener("127.0.0.1:0", own, accept=["data-owner"], timeout=PATIENCE) as listener:
        pipe.send(listener.port)
        for _ in range(task.images + 1):
            with next_of(listener) as other, to_provider() as third:
                watch = _Watch(third)
                run_model_owner(other, third, model, shape)
    pipe.recv()
    pipe.send(
        {
            "dealt": opened[-1].counts.bytes_received,
            "waited_for_dealer": watch.waited,
            "peak_memory": peak_memory(),
        }
    )


def data_owner(pipe: Connection, task: Task) -> None:
    """Warm up, wait for the line to be shaped, and have images classified."""
    begin(task)
    own, images = task.credentials("data-owner"), task.pictures()
    provider_port, model_port = pipe.recv()
    to_provider, opened = keeping(own, provider_port)
    card = load_model(task.material)[1]
    classes, channels = len(card.classes), card.channels
    architecture = build_model(
        card.model, outputs=classes, channels=channels, seed=2, first_weights=False
    )
    rows = []
    for number, image in enumerate(images):
        address = f"127.0.0.1:{model_port}"
        with (
            connect(address, own, expect="model-owner", timeout=PATIENCE) as other,
            to_provider() as third,
        ):
            if number == 1:
                pipe.send("ready")
                pipe.recv()
            watch = _Watch(other)
            logits = run_data_owner(other, third, architecture, image[None])
            rows.append(
                {
                    "seconds": time.monotonic() - watch.started,
                    "sent": other.counts.bytes_sent,
                    "received": other.counts.bytes_received,
                    "scores": logits[0].tolist(),
                }
            )
            frames = other.counts.frames_sent + other.counts.frames_received
    pipe.send("done")
    pipe.send(
        {
            "images": rows[1:],
            # As CrypTen's communicator counts: exchanges and one-way messages; no handshake.
            "exchanges": frames - watch.exchanges - 1,
            "dealt": opened[-1].counts.bytes_received,
            "peak_memory": peak_memory(),
        }
    )
