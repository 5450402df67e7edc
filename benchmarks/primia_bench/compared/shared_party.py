"""One hospital of the training on shares: a process with its own kit and its own images.

It connects to the crypto provider, which is the product's own (`primia serve crypto-provider`), and
to the other hospital, over TLS with certificates on both sides. The kits know three roles: the
hospital that listens has the model owner's, the other one the data owner's. Started by
`primia_bench.compared.shared_training`.
"""

import argparse
import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primia_bench.compared.shared_head import Head, Plan, train_shared
from primia_flwr.errors import ServiceError
from primia_flwr.inference.arithmetic.randomness import SEED_BYTES
from primia_flwr.inference.crypten.provider import TrustedDealer, asking
from primia_flwr.inference.crypten.wire import DONE, SEED
from primia_flwr.inference.transport.channel import Channel
from primia_flwr.inference.transport.connect import connect
from primia_flwr.inference.transport.credentials import Credentials, Role, load_credentials
from primia_flwr.inference.transport.listener import Listener
from primia_flwr.inference.transport.messages import NONCE_BYTES, Join, Kind, pack
from primia_flwr.storage.atomic import write_atomic

PATIENCE = 120.0  # seconds
_LISTENS: Role = "model-owner"


def provider_for(party: int, other: Channel, dealer: Channel) -> TrustedDealer:
    """Come to the dealer for a session that both parties' nonces name; return its triples."""
    nonces = [b"", b""]
    nonces[party] = secrets.token_bytes(NONCE_BYTES)
    nonces[1 - party] = bytes(other.exchange(Kind.HELLO, nonces[party], at_most=NONCE_BYTES))
    name = hashlib.sha256(b"primia shared head session" + b"".join(nonces)).hexdigest()
    dealer.send(Kind.JOIN, pack(Join(name, other.peer.fingerprint, "crypten")))
    dealer.receive(Kind.JOINED, at_most=0)
    seed = bytes(dealer.receive(SEED, at_most=SEED_BYTES))
    return TrustedDealer(seed, asking(dealer) if party else None)


def to_other(own: Credentials, port: int) -> Channel:
    """Return the link between the two hospitals.

    Raises
    ------
    ServiceError
        If the other one does not come.
    """
    if own.own.role != _LISTENS:
        return connect(f"127.0.0.1:{port}", own, expect=_LISTENS, timeout=PATIENCE)
    address = f"127.0.0.1:{port}"
    with Listener(address, own, accept=["data-owner"], timeout=PATIENCE) as listener:
        channel = listener.accept(PATIENCE)
    if channel is None:
        raise ServiceError(f"the other hospital did not come within {PATIENCE:g} s")
    return channel


def take_part(own: Credentials, args: argparse.Namespace) -> dict[str, Any]:
    """Train with the other hospital; return the head and what it took."""
    party = int(own.own.role == _LISTENS)
    features, labels = _read(args.images)
    plan = Plan.from_json(args.plan)
    address = f"127.0.0.1:{args.dealer}"
    with (
        to_other(own, args.port) as other,
        connect(address, own, expect="crypto-provider", timeout=PATIENCE) as dealer,
    ):
        provider = provider_for(party, other, dealer)
        began, busy = time.perf_counter(), time.process_time()
        head = train_shared(party, other, provider, plan, features, labels)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        if party:
            dealer.send(DONE)
        return _figures(head, other, dealer) | {"seconds": seconds, "processor_seconds": busy}


def _read(path: Path) -> tuple[Tensor, Tensor]:
    with np.load(path, allow_pickle=False) as own:
        return torch.from_numpy(own["features"]), torch.from_numpy(own["labels"])


def _figures(head: Head, other: Channel, dealer: Channel) -> dict[str, Any]:
    return {
        "weights": head.weights.tolist(),
        "bias": head.bias.tolist(),
        "messages_sent": other.counts.frames_sent,
        "bytes_sent": other.counts.bytes_sent,
        "bytes_from_dealer": dealer.counts.bytes_received,
        "bytes_to_dealer": dealer.counts.bytes_sent,
        "triples": dealer.counts.frames_received - 2,  # but for welcome to the session and seed
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kit", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="own features and labels, .npz")
    parser.add_argument("--plan", required=True, help="JSON")
    parser.add_argument("--port", type=int, required=True, help="between the hospitals")
    parser.add_argument("--dealer", type=int, required=True, help="port of the crypto provider")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = take_part(load_credentials(args.kit), args)
    write_atomic(args.output, json.dumps(found))


if __name__ == "__main__":
    main()
