"""What each of two processes does in the tests of training on shares."""

from collections.abc import Callable
from typing import Any

import numpy as np
from primia_bench.compared.shared_head import Head, Plan, train_shared
from torch import Tensor

from primia_flwr.inference.arithmetic.randomness import SEED_BYTES
from primia_flwr.inference.crypten.links import tell_on_failure
from primia_flwr.inference.crypten.provider import TrustedDealer, asking
from primia_flwr.inference.crypten.wire import DONE, SEED
from primia_flwr.inference.transport.channel import Channel

Own = tuple[Plan, Tensor, Tensor]  # and this party's features and labels


def trains(other: Channel, dealer: Channel, argument: Own) -> tuple[Head, bytes]:
    """Train with the other party; return the head, and all that went to that party."""
    plan, features, labels = argument
    party, sent = int(other.peer.role == "data-owner"), bytearray()
    for name in ("send", "exchange"):
        setattr(other, name, _heard(getattr(other, name), sent))
    with tell_on_failure(other, dealer):
        seed = bytes(dealer.receive(SEED, at_most=SEED_BYTES))
        provider = TrustedDealer(seed, asking(dealer) if party else None)
        head = train_shared(party, other, provider, plan, features, labels)
        if party:
            dealer.send(DONE)
    return head, bytes(sent)


def _heard(call: Callable[..., Any], sent: bytearray) -> Callable[..., Any]:
    def calls(kind: int, *parts: Any, **options: Any) -> Any:
        for part in parts:
            sent.extend(part.tobytes() if isinstance(part, np.ndarray) else part)
        return call(kind, *parts, **options)

    return calls
