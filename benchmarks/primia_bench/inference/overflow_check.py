"""What an audit of encrypted inference costs: seconds and bytes of a batch, with and without.

Both parties are threads of one process and talk through queues; the dealer's blocks are kept in
memory. So there is no line, no TLS and no disk in the seconds: what is left is the work. The model
has random weights, with BatchNorm statistics of 32 random images
(`primia_bench.inference.crypten_stock`).

    python -m primia_bench.inference.overflow_check --output benchmarks/results/inference_audit.json

`deal_seconds`: the crypto provider's, for a block. `open_seconds`: both parties', from the dealt
bytes to what the first message needs. `online_seconds`: from the image to the scores. The same with
`processor`: of both parties' threads together, for machines that do something else besides. Medians
of `--repeats`, with and without by turns, after one of each that warms up. `bytes_dealt` and
`bytes_sent`: counted, without the frames' headers of 9 bytes. A batch that is outside its ring on
purpose (`outside`, `--outside-bits`) must have no scores; else the benchmark fails.
"""

import argparse
import queue
import statistics
import threading
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from primia_bench.inference.crypten_stock import Clock, model_and_image, now
from primia_bench.machine import describe_machine, publish
from primia_flwr.inference.arithmetic.randomness import fresh_seed
from primia_flwr.inference.correlation_spec import CorrelationSpec
from primia_flwr.inference.lowering.lowering import Lowered, lower
from primia_flwr.inference.preprocessing.dealing import Dealer, weight_masks
from primia_flwr.inference.preprocessing.prepared import masked_products, prepare
from primia_flwr.inference.protocol.online import Buffer, DataOwner, ModelOwner

_PATIENCE = 300.0  # seconds


@dataclass
class Line:
    """One end of a link through queues, which counts what it sends."""

    out: queue.Queue[bytes]
    incoming: queue.Queue[bytes]
    num_sent: int = 0
    frames: int = 0

    def send(self, *parts: Buffer) -> None:
        """Send one frame."""
        frame = b"".join(bytes(part) for part in parts)
        self.num_sent, self.frames = self.num_sent + len(frame), self.frames + 1
        self.out.put(frame)

    def receive(self, at_most: int) -> Buffer:
        """Return the other end's next frame."""
        frame = self.incoming.get(timeout=_PATIENCE)
        if len(frame) > at_most:
            raise SystemExit(f"a frame of {len(frame)} bytes; expected at most {at_most}")
        return bytearray(frame)

    def exchange(self, part: Buffer, at_most: int) -> Buffer:
        """Send a frame and return the other end's."""
        self.send(part)
        return self.receive(at_most)


def batch(lowered: Lowered, image: Tensor, threads: int) -> tuple[Tensor | None, dict[str, float]]:
    """Deal a block and have one batch classified; return the scores, and what it took."""
    spec, seed = CorrelationSpec.of(lowered.plan), fresh_seed()
    masks, dealer = weight_masks(spec, seed), Dealer(spec, seed)
    masked = [layer.weight - mask for layer, mask in zip(lowered.weights, masks, strict=True)]
    clock = [now()]
    parts = list(dealer.block())
    clock.append(now())
    dealt = [[pair[party] for pair in parts] for party in (0, 1)]
    products = list(masked_products(spec, dealt[0][0], masked))
    clock.append(now())
    blocks = prepare(0, spec, dealt[0], products), prepare(1, spec, dealt[1])
    clock.append(now())
    queues = queue.Queue[bytes](), queue.Queue[bytes]()
    ends = Line(queues[0], queues[1]), Line(queues[1], queues[0])
    owner = ModelOwner(lowered.plan, blocks[1], ends[1], lowered.weights, threads=threads)
    thread = threading.Thread(target=_inferring, args=(owner,))
    thread.start()
    with torch.inference_mode():
        scores = DataOwner(lowered.plan, blocks[0], ends[0], threads=threads).classify(image)
    clock.append(now())
    thread.join()
    return scores, {
        **_lasted("deal", clock[0], clock[1]),
        **_lasted("open", clock[2], clock[3]),
        **_lasted("online", clock[3], clock[4]),
        "bytes_dealt_data_owner": sum(len(part) for part in dealt[0]),
        "bytes_dealt_model_owner": sum(len(part) for part in dealt[1]),
        "bytes_sent_data_owner": ends[0].num_sent,
        "bytes_sent_model_owner": ends[1].num_sent,
        "frames_sent": ends[0].frames + ends[1].frames,
    }


def _lasted(what: str, start: Clock, end: Clock) -> dict[str, float]:
    seconds, processor = end[0] - start[0], end[1] - start[1]
    return {f"{what}_seconds": seconds, f"{what}_processor_seconds": processor}


def _inferring(owner: ModelOwner) -> None:
    with torch.inference_mode():
        owner.answer()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    model, image = model_and_image(args)
    plain = lower(model, tuple(image.shape), compare_bits=args.bits)
    ways = {"without": plain, "with": replace(plain, plan=replace(plain.plan, audit=True))}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    errors = []
    with torch.inference_mode():
        right = model(image)
    for repeat in range(args.repeats + 1):
        for name, lowered in ways.items():
            scores, row = batch(lowered, image, args.threads)
            if scores is None:
                raise SystemExit(f"compare_bits={args.bits} is not enough for this model")
            errors.append(float((scores - right).abs().max()))
            if repeat:
                rows[name].append(row)
    return {
        "benchmark": "inference_audit",
        "settings": {key: value for key, value in vars(args).items() if key != "output"},
        "comparisons": sum(step.count for step in CorrelationSpec.of(plain.plan).comparisons),
        **{name: _medians(found) for name, found in rows.items()},
        "largest_logit_error": max(errors),
        "outside": _outside(ways["with"], image, args),
        "machine": describe_machine(),
    }


def _outside(lowered: Lowered, image: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """Have the same image classified in a ring that is too small."""
    bits = (args.outside_bits,) * len(lowered.plan.compare_bits)
    small = replace(lowered, plan=replace(lowered.plan, compare_bits=bits))
    found = [batch(small, image, args.threads)[0] is None for _ in range(args.repeats)]
    if not all(found):
        raise SystemExit(f"{found.count(False)} of {len(found)} batches outside had scores")
    return {"compare_bits": args.outside_bits, "batches": len(found), "seen": sum(found)}


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(row[name] for row in rows), 4) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--bits", type=int, default=32, help="of the comparisons' ring")
    parser.add_argument("--outside-bits", type=int, default=12, help="of a ring that is too small")
    parser.add_argument("--threads", type=int, default=1, help="of each party")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    publish(measure(parser.parse_args()), parser.parse_args().output)


if __name__ == "__main__":
    main()
