"""What a mode without a dealer would cost: SPU's Cheetah beside ours, for ReLUs and one layer.

Cheetah (Huang et al. 2022) takes homomorphic encryption and oblivious transfer in place of the
crypto provider. SPU keeps it; it is no dependency here, and runs in an environment of its own:

    python3.11 -m venv /tmp/spu && /tmp/spu/bin/pip install spu
    python -m primia_bench.inference.without_dealer --python /tmp/spu/bin/python \
        --output benchmarks/results/inference_without_dealer.json

Where `spu` cannot be imported there, the row says why and the rest is measured. Bytes are those of
both directions. Processor time is that of all parties together, ours with the dealer's; Cheetah's
has its set-up in it, which a network of many layers pays once. Ours has no TLS in it, nor has
Cheetah's. Elapsed seconds say little: both parties of Cheetah share this machine with others.
"""

import argparse
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from primia_bench.machine import describe_machine, publish
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.arithmetic.randomness import Stream, fresh_seed
from primia_flwr.inference.fss import compare
from primia_flwr.inference.fss.dealing import deal
from primia_flwr.inference.fss.keys import Sizes
from primia_flwr.inference.plan import Geometry

_SCRIPT = Path(__file__).with_name("cheetah_spu.py")
_PATIENCE = 1800.0
_LINK = re.compile(r"Link details: total send bytes (\d+), recv bytes (\d+)")


def cheetah(python: str, count: int) -> list[dict[str, Any]]:
    """Return Cheetah's rows, or one that says why there are none."""
    try:
        done = subprocess.run(
            [python, str(_SCRIPT), str(count)],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [{"skipped": str(error)}]
    text = done.stdout + done.stderr
    links = [sum(map(int, found)) for found in _LINK.findall(text)]
    lines = [json.loads(line[4:]) for line in text.splitlines() if line.startswith("ROW ")]
    rows: list[dict[str, Any]] = [
        {"by": "Cheetah (SPU)", **row, "bytes_online": sent, "bytes_dealt": 0}
        for row, sent in zip(lines, links, strict=False)
    ]
    if done.returncode:
        why = text[text.find("Error") :] if "Error" in text else text
        rows.append({"skipped": " ".join(why.split())[:300]})
    return rows


def our_relus(count: int, bits: int) -> dict[str, Any]:
    """Return what as many ReLUs take here."""
    stream, seeds = Stream(fresh_seed(), "benchmark"), (fresh_seed(), fresh_seed())
    x = stream.uint64(count).view(np.int64) >> (65 - bits)
    r, share, words = stream.uint64(count), stream.uint64(count), x.view(np.uint64)
    started = time.process_time()
    dealt = deal(r, bits, seeds)
    sent = [b"".join(dealt.sent(party)) for party in (0, 1)]
    keys = [compare.expand(p, seeds[p], sent[p], bits, count) for p in (0, 1)]
    packed = [compare.evaluate(one, words + r) for one in keys]
    opened = np.unpackbits(packed[0] ^ packed[1], axis=1, count=count, bitorder="little")
    shares = share, words - share
    found = [
        compare.relu(one, words + r, opened, own) for one, own in zip(keys, shares, strict=True)
    ]
    processor = time.process_time() - started
    if not np.array_equal((found[0] + found[1]).view(np.int64), np.maximum(x, 0)):
        raise SystemExit("a ReLU is wrong")
    sizes = Sizes(bits, count)
    return {
        "by": f"fss, {bits} bits",
        "what": "relu",
        "numbers": count,
        "processor_seconds_of_all": round(processor, 4),
        "largest_error": 0.0,
        "bytes_online": 2 * 8 * count + sum(one.nbytes for one in packed),
        "bytes_dealt": sizes.sent_bytes(0) + sizes.sent_bytes(1),
    }


def our_convolution() -> dict[str, Any]:
    """Return what the layer of `cheetah_spu` takes here; the masked weights came before."""
    stream, geometry = Stream(fresh_seed(), "layer"), Geometry(padding=(1, 1))
    shape = (1, 64, 16, 16)
    value, mask, own = (torch.from_numpy(stream.uint64(shape).view(np.int64)) for _ in range(3))
    weight, hidden = (
        torch.from_numpy(stream.uint64((64, 64, 3, 3)).view(np.int64)) for _ in range(2)
    )
    started = time.process_time()
    other = ring.product(mask, hidden, geometry) - own
    first = ring.product(mask, weight - hidden, geometry) + own
    second = ring.product(value - mask, weight, geometry) + other
    processor = time.process_time() - started
    if not torch.equal(first + second, ring.product(value, weight, geometry)):
        raise SystemExit("a convolution is wrong")
    return {
        "by": "fss",
        "what": "convolution",
        "numbers": own.numel(),
        "processor_seconds_of_all": round(processor, 4),
        "bytes_online": 8 * value.numel(),
        "bytes_dealt": 8 * own.numel(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default="python3", help="an interpreter that has spu")
    parser.add_argument("--count", type=int, default=1 << 16, help="ReLUs")
    parser.add_argument("--bits", type=int, default=22, help="of our ring; Cheetah takes 64")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [our_relus(args.count, args.bits), our_relus(args.count, 64), our_convolution()]
    result = {
        "benchmark": "inference_without_dealer",
        "settings": {"count": args.count, "bits": args.bits},
        "rows": [*rows, *cheetah(args.python, args.count)],
        "machine": describe_machine(),
    }
    publish(result, args.output)


if __name__ == "__main__":
    main()
