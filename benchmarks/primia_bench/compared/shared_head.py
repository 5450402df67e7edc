"""One linear head, trained on secret-shared features and labels, and the same steps in the clear.

Two hospitals share their features and one-hot labels additively; a dealer brings the triples. One
logistic function a class, its gradient by CrypTen's autograd. Neither loss nor accuracy is
computed: `error = sigmoid(logits) - labels` is the gradient of the logistic loss with respect to
the logits, so the logarithm, CrypTen's dearest function, is not asked for. The features' mean is
taken on shares, which costs no message, and ends up in the bias: no hospital's mean is told. Only
the trained head is opened.

CrypTen's sigmoid compares (signs) and divides (Newton): products, squares, AND triples and random
bits, all of which our dealer deals for encrypted inference already.

Source: Knott et al. 2021 (CrypTen); Mohassel and Zhang 2017 (SecureML).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from primia_flwr.inference.crypten.door import MPCTensor, crypten
from primia_flwr.inference.crypten.session import session
from primia_flwr.inference.transport.channel import Channel


@dataclass(frozen=True)
class Plan:
    """What both parties know, and must have alike.

    Parameters
    ----------
    images : tuple of int
        Of party 0 and of party 1.
    features, classes : int
        Width of the head's input and output.
    batch, passes : int
        Images of a step, taken from both parties' in a public random order; passes over all.
    rate, momentum : float
        Of the steps; `rate` for the sum over a batch, at best a power of two: exact in fixed point.
    seed : int
        Of the order.
    """

    images: tuple[int, int]
    features: int
    classes: int
    batch: int
    passes: int
    rate: float = 2.0**-11
    momentum: float = 0.875
    seed: int = 0

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what `json.dumps(asdict(plan))` wrote."""
        values = json.loads(text)
        return cls(**values | {"images": tuple(values["images"])})

    @property
    def agreement(self) -> bytes:
        """SHA-256 of all of it."""
        return hashlib.sha256(f"primia shared head v1 {self!r}".encode()).digest()

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.passes * -(-sum(self.images) // self.batch)

    def batches(self) -> Iterator[Tensor]:
        """Return each step's rows, counted over party 0's images and then party 1's."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.passes):
            order = torch.randperm(sum(self.images), generator=generator)
            yield from torch.split(order, self.batch)


@dataclass(frozen=True)
class Head:
    """Weights (features, classes) and bias (classes,) of `logits = x @ weights + bias`."""

    weights: Tensor
    bias: Tensor

    def classes(self, features: Tensor) -> Tensor:
        """Return the class (N,) of features (N, features)."""
        return (features @ self.weights + self.bias).argmax(dim=1)


def train_shared(
    party: int, other: Channel, provider: Any, plan: Plan, features: Tensor, labels: Tensor
) -> Head:
    """Take one party's part in the training; return the head, which both learn.

    Parameters
    ----------
    party : int
        0 or 1.
    other : Channel
        To the other party.
    provider : TrustedDealer
        Of the triples.
    plan : Plan
        Public.
    features, labels : Tensor
        This party's own: (N, features) float and (N,) int64.

    Raises
    ------
    ProtocolError
        If the other party has another plan.
    ServiceError
        If a party cannot be heard.
    """
    targets = functional.one_hot(labels, plan.classes).float()
    with session(party, other, provider, agreement=plan.agreement):
        x, y = (_shares(own, party, plan) for own in (features, targets))
        mean = x.mean(0, keepdim=True)
        x = x - mean
        head = [_zeros(plan.features, plan.classes), _zeros(1, plan.classes)]
        optimizer = crypten.optim.SGD(head, lr=plan.rate, momentum=plan.momentum)
        for rows in plan.batches():
            _step(head, optimizer, x[rows], y[rows])
        weights, bias = (parameter.detach() for parameter in head)
        bias = bias - mean.matmul(weights)
        return Head(weights.get_plain_text(), bias.get_plain_text().flatten())


def _step(head: list[Any], optimizer: Any, x: Any, y: Any) -> None:
    with crypten.enable_grad():
        logits = x.matmul(head[0]) + head[1]
    optimizer.zero_grad()
    logits.backward(logits.detach().sigmoid() - y)
    optimizer.step()


def _shares(own: Tensor, party: int, plan: Plan) -> Any:
    """Return both parties' rows in shares, one below the other; the other's size is public."""
    rows = [
        own if source == party else torch.zeros(count, own.shape[1])
        for source, count in enumerate(plan.images)
    ]
    return crypten.cat([MPCTensor(part, src=source) for source, part in enumerate(rows)])


def _zeros(*shape: int) -> Any:
    return MPCTensor(torch.zeros(shape), src=0, requires_grad=True)


def train_plain(plan: Plan, features: Tensor, labels: Tensor, *, softmax: bool = False) -> Head:
    """Take the same steps in the clear, float32, on all images (N, features).

    `softmax`: by the cross-entropy over classes, as heads here are trained elsewhere.
    """
    targets = functional.one_hot(labels, plan.classes).float()
    mean = features.mean(0, keepdim=True)
    x = features - mean
    weights = torch.zeros(plan.features, plan.classes, requires_grad=True)
    bias = torch.zeros(plan.classes, requires_grad=True)
    optimizer = torch.optim.SGD([weights, bias], lr=plan.rate, momentum=plan.momentum)
    for rows in plan.batches():
        logits = x[rows] @ weights + bias
        found = logits.detach()
        error = (found.softmax(1) if softmax else found.sigmoid()) - targets[rows]
        optimizer.zero_grad()
        logits.backward(error)  # type: ignore[no-untyped-call]
        optimizer.step()
    trained = weights.detach()
    return Head(trained, bias.detach() - (mean @ trained).flatten())
