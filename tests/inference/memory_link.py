"""Two parties in one process: a link through queues that keeps what each side received."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor

from primia_flwr.inference.arithmetic.randomness import fresh_seed
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.lowering import Lowered
from primia_flwr.inference.preprocessing.dealing import Dealer, weight_masks
from primia_flwr.inference.preprocessing.prepared import Prepared, masked_products, prepare
from primia_flwr.inference.protocol.online import Buffer, DataOwner, ModelOwner


@dataclass
class MemoryLink:
    """One end; `received` holds every frame that came in."""

    out: queue.Queue[bytes]
    incoming: queue.Queue[bytes]
    received: list[bytes] = field(default_factory=list)
    num_sent: int = 0

    def send(self, *parts: Buffer) -> None:
        frame = b"".join(bytes(part) for part in parts)
        self.num_sent += len(frame)
        self.out.put(frame)

    def receive(self, at_most: int) -> Buffer:
        frame = self.incoming.get(timeout=60)
        assert len(frame) <= at_most
        self.received.append(frame)
        return bytearray(frame)

    def exchange(self, part: Buffer, at_most: int) -> Buffer:
        self.send(part)
        return self.receive(at_most)


def linked() -> tuple[MemoryLink, MemoryLink]:
    one, other = queue.Queue[bytes](), queue.Queue[bytes]()
    return MemoryLink(one, other), MemoryLink(other, one)


def deal(lowered: Lowered) -> tuple[Prepared, Prepared]:
    """Deal one block and make both halves ready."""
    spec, seed = CorrelationSpec.of(lowered.plan), fresh_seed()
    parts = [(bytes(a), bytes(b)) for a, b in Dealer(spec, seed).block()]
    masks = weight_masks(spec, seed)
    masked = [w.weight - mask for w, mask in zip(lowered.weights, masks, strict=True)]
    products = list(masked_products(spec, parts[0][0], masked))
    return (
        prepare(0, spec, [a for a, _ in parts], products),
        prepare(1, spec, [b for _, b in parts]),
    )


def classify(lowered: Lowered, images: Tensor) -> tuple[Tensor, MemoryLink, MemoryLink]:
    """Return the scores, and both ends of the line."""
    mine, theirs = deal(lowered)
    ends = linked()
    owner = ModelOwner(lowered.plan, theirs, ends[1], lowered.weights)
    thread = threading.Thread(target=owner.answer)
    thread.start()
    with torch.inference_mode():
        scores = DataOwner(lowered.plan, mine, ends[0]).classify(images)
    thread.join(60)
    return scores, *ends
