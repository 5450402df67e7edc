"""Both parties' part of one batch: from the masked image to the scores.

The data owner speaks first. A frame of it brings the openings of the next linear layers and its
share of the next comparison's masked input; the model owner answers with its own share; then
both send five bits for each number compared, at once. So a comparison costs one answer and one
reply, and the linear layers between two comparisons travel with the reply: 2 + 2 c one-way delays
for c comparison steps. An audit rides along: a hash with the data owner's last frame, a tag with
the scores.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from primia_flwr.errors import ProtocolError
from primia_flwr.inference import plan as steps
from primia_flwr.inference.arithmetic import ring
from primia_flwr.inference.fss import compare
from primia_flwr.inference.lowering.builder import Weights
from primia_flwr.inference.overflow import check as audit
from primia_flwr.inference.overflow.limits import beyond
from primia_flwr.inference.plan import Plan
from primia_flwr.inference.preprocessing.dealing import Selection, Words, tensor, words
from primia_flwr.inference.preprocessing.prepared import Prepared
from primia_flwr.inference.protocol.plausibility import HONEST_LIMIT, judged

Buffer = bytes | bytearray | memoryview


class _Link(Protocol):
    """What the parties need of the connection between them."""

    def send(self, *parts: Buffer) -> None:
        """Send one frame."""

    def receive(self, at_most: int) -> Buffer:
        """Return the peer's next frame."""

    def exchange(self, part: Buffer, at_most: int) -> Buffer:
        """Send a frame and return the peer's, at the same time."""


class _Party:
    """The steps that both parties take alike, each on its own share."""

    party: int

    def __init__(self, plan: Plan, prepared: Prepared, link: _Link, *, threads: int = 1) -> None:
        self._plan, self._prepared, self._link = plan, prepared, link
        self._threads = threads
        self._values: dict[int, Tensor] = {}
        self._ledger = audit.Ledger(self.party)

    def _run(self) -> Tensor | None:
        for step in self._plan.steps:
            match step:
                case steps.Open():
                    self._open(step)
                case steps.Linear():
                    self._values[step.target] = self._linear(step)
                case steps.Relu():
                    self._values[step.target] = self._relu(
                        self._values[step.source], self._prepared.selections[step.comparison]
                    )
                case steps.MaxLevel():
                    self._values[step.target] = self._maxima(step)
                case steps.Average():
                    share = self._values[step.source]
                    self._values[step.target] = ring.average(share, step, self.party)
                case steps.Add():
                    self._values[step.target] = self._values[step.left] + self._values[step.right]
                case steps.Flatten():
                    self._values[step.target] = self._values[step.source].reshape(step.shape)
                case steps.Pad():
                    share = self._values[step.source]
                    self._values[step.target] = functional.pad(share, step.cells)
                case steps.Enlarge():
                    share = self._values[step.source]
                    self._values[step.target] = ring.enlarge(share, step.factor)
                case steps.Concat():
                    shares = [self._values[source] for source in step.sources]
                    self._values[step.target] = torch.cat(shares, dim=1)
                case steps.Fork():
                    self._values[step.target] = self._fork(step)
                case steps.Difference():
                    first, second = self._values[step.source].chunk(2)
                    self._values[step.target] = first - second
                case steps.Reveal():
                    return self._reveal(step)
        raise ProtocolError("the plan reveals nothing; expected a last step that does")

    def _fork(self, step: steps.Fork) -> Tensor:
        """Return x and x - limit; the model owner alone subtracts the public number."""
        share = self._values[step.source]
        limit = step.limit << ring.ACTIVATION_BITS if self.party == ring.MODEL_OWNER else 0
        return torch.cat([share, share - limit])

    def _open(self, step: steps.Open) -> None:
        raise NotImplementedError

    def _linear(self, step: steps.Linear) -> Tensor:
        raise NotImplementedError

    def _reveal(self, step: steps.Reveal) -> Tensor | None:
        raise NotImplementedError

    def _open_masked(self, mine: Words) -> Words:
        """Return the sum of both parties' masked shares."""
        raise NotImplementedError

    def _maxima(self, step: steps.MaxLevel) -> Tensor:
        """Return b + relu(a - b) for each pair of cells."""
        source, pairs = self._values[step.source], step.pairs
        result = source.index_select(step.axis, torch.tensor(step.first))
        if not pairs:
            return result
        at = torch.tensor(pairs)
        other = source.index_select(step.axis, torch.tensor([step.second[i] for i in pairs]))
        difference = result.index_select(step.axis, at) - other
        larger = other + self._relu(difference, self._prepared.selections[step.comparison])
        return result.index_copy_(step.axis, at, larger)

    def _relu(self, share: Tensor, selection: Selection) -> Tensor:
        """Return a share of max(x, 0): open x + r, compare, open five masked bits, choose."""
        x, keys = words(share).ravel(), selection.keys
        opened = self._open_masked(x + selection.r)
        bits = self._open_bits(compare.evaluate(keys, opened, threads=self._threads), x.size)
        if self._plan.audit:
            self._ledger.add(keys.bits, opened, bits[0], keys.pairs[0][0], selection.checks)
        larger = compare.relu(keys, opened, bits, x, threads=self._threads)
        return tensor(larger).reshape(share.shape)

    def _open_bits(self, mine: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        theirs = self._link.exchange(mine.reshape(-1).data, mine.nbytes)
        opened = mine ^ _array(theirs, np.uint8, mine.size).reshape(mine.shape)
        return np.unpackbits(opened, axis=1, count=count, bitorder="little")


class DataOwner(_Party):
    """Holds the image, learns the scores.

    Parameters
    ----------
    plan : Plan
        Of the model.
    prepared : Prepared
        The data owner's block; never used before or after.
    link : Link
        To the model owner.
    threads : int
        For the comparisons.
    score_limit : float
        Below which the scores of this model are in magnitude; see `plausibility.judged`.
    """

    party = ring.DATA_OWNER

    def __init__(
        self,
        plan: Plan,
        prepared: Prepared,
        link: _Link,
        *,
        threads: int = 1,
        score_limit: float = HONEST_LIMIT,
    ) -> None:
        super().__init__(plan, prepared, link, threads=threads)
        self._score_limit = score_limit

    def classify(self, images: Tensor) -> Tensor | None:
        """Return the scores (N, classes), float64, of normalised images (N, C, H, W).

        A model with outputs at each pixel gives (N, classes, H, W).

        With and without audit NaN for an image whose scores cannot be right. With audit, None if
        a number was outside its ring: nobody has the scores then.

        Raises
        ------
        ProtocolError
            If the images have another shape, or the peer breaks the protocol.
        """
        self._pending: list[Buffer] = []
        self._values = {0: self._encoded(images)}
        scores = self._run()
        if scores is None:
            return None
        return judged(ring.decode(scores, ring.ACTIVATION_BITS), self._score_limit)

    def _encoded(self, images: Tensor) -> Tensor:
        if tuple(images.shape) != self._plan.input_shape:
            raise ProtocolError(
                f"images of shape {tuple(images.shape)}; expected {self._plan.input_shape}"
            )
        encoded = ring.encode(images, ring.ACTIVATION_BITS)
        if self._plan.audit and beyond(encoded):
            raise ProtocolError(
                f"normalised pixels of magnitude {float(images.abs().max()):g}; an audit expects "
                "them below 262,144: is the standard deviation of the model's card right?"
            )
        return encoded

    def _open(self, step: steps.Open) -> None:
        masked = self._values[step.source] - self._prepared.openings[step.opening]
        self._pending.append(_bytes(words(masked)))

    def _linear(self, step: steps.Linear) -> Tensor:
        share = self._prepared.products[step.weight]
        return ring.truncate(share, ring.WEIGHT_BITS, self.party)

    def _open_masked(self, mine: Words) -> Words:
        self._send(_bytes(mine))
        theirs = self._link.receive(mine.nbytes)
        opened: Words = mine + _array(theirs, np.uint64, mine.size)
        return opened

    def _reveal(self, step: steps.Reveal) -> Tensor | None:
        mine = words(self._values[step.source])
        if self._plan.audit:
            return self._reveal_audited(mine)
        self._send()
        theirs = self._link.receive(mine.nbytes)
        return tensor(mine + _array(theirs, np.uint64, mine.size).reshape(mine.shape))

    def _reveal_audited(self, mine: Words) -> Tensor | None:
        """Return the scores if the key fits, and if they are not beyond what scores can be."""
        release = self._prepared.release
        if not isinstance(release, audit.Key):
            raise ProtocolError("a block was dealt without audit; expected the key of its release")
        self._send(_bytes(release.ask(self._ledger.digest())))
        answer = self._link.receive(audit.TAG_BYTES + mine.nbytes)
        masked = _array(memoryview(answer)[audit.TAG_BYTES :], np.uint64, mine.size)
        # The same work whatever the tag says: when this party speaks next must not tell.
        theirs = masked - audit.score_mask(release.seed, mine.size)
        scores = tensor(mine + theirs.reshape(mine.shape))
        right = release.fits(bytes(answer[: audit.TAG_BYTES])) & (not beyond(scores))
        return scores if right else None

    def _send(self, *last: Buffer) -> None:
        self._link.send(*self._pending, *last)
        self._pending = []


class ModelOwner(_Party):
    """Holds the weights, learns nothing.

    Parameters
    ----------
    plan, prepared, link, threads
        As `DataOwner`, the model owner's.
    weights : sequence of Weights
        By number, in fixed point.
    """

    party = ring.MODEL_OWNER

    def __init__(
        self,
        plan: Plan,
        prepared: Prepared,
        link: _Link,
        weights: Sequence[Weights],
        *,
        threads: int = 1,
    ) -> None:
        super().__init__(plan, prepared, link, threads=threads)
        self._weights = weights
        self._opened: dict[int, Tensor] = {}
        self._frame: Words = np.zeros(0, np.uint64)
        self._at_most = 8 * sum(
            int(np.prod(step.shape)) for step in plan.steps if not isinstance(step, steps.Linear)
        )
        self._at_most += 8 * audit.DIGEST_WORDS * plan.audit

    def answer(self) -> None:
        """Take part in the classification of one batch.

        Raises
        ------
        ProtocolError
            If the peer breaks the protocol.
        """
        self._values = {0: torch.zeros(self._plan.input_shape, dtype=torch.int64)}
        self._run()

    def _open(self, step: steps.Open) -> None:
        masked = self._next(int(np.prod(step.shape))).reshape(step.shape)
        self._opened[step.opening] = tensor(masked) + self._values[step.source]

    def _linear(self, step: steps.Linear) -> Tensor:
        weights = self._weights[step.weight]
        value = self._opened[step.opening]
        product = ring.product(value, weights.weight, step.geometry)
        product += self._prepared.products[step.weight]
        bias = weights.bias if step.geometry is None else weights.bias[:, None, None]
        return ring.truncate(product + bias, ring.WEIGHT_BITS, self.party)

    def _open_masked(self, mine: Words) -> Words:
        theirs = self._next(mine.size)
        self._check_consumed()
        self._link.send(_bytes(mine))
        return theirs + mine

    def _reveal(self, step: steps.Reveal) -> None:
        mine = words(self._values[step.source])
        if self._plan.audit:
            self._reveal_audited(mine)
            return
        self._check_consumed()
        self._link.send(_bytes(mine))

    def _reveal_audited(self, mine: Words) -> None:
        """Send the share of the scores under a mask that falls if all was in its ring."""
        release = self._prepared.release
        if not isinstance(release, audit.Lock):
            raise ProtocolError("a block was dealt without audit; expected the lock of its release")
        asked = self._next(audit.DIGEST_WORDS)
        self._check_consumed()
        tag, seed = release.answer(asked, self._ledger.digest())
        masked = mine + audit.score_mask(seed, mine.size).reshape(mine.shape)
        self._link.send(tag, _bytes(masked))

    def _next(self, count: int) -> Words:
        """Return the next words of the data owner's frame."""
        if not self._frame.size:
            received = self._link.receive(self._at_most)
            self._frame = _array(received, np.uint64, len(received) // 8)
        if self._frame.size < count:
            raise ProtocolError(f"a frame ends {count - self._frame.size} numbers too early")
        taken, self._frame = self._frame[:count], self._frame[count:]
        return taken

    def _check_consumed(self) -> None:
        if self._frame.size:
            raise ProtocolError(f"a frame has {self._frame.size} numbers too many")


def _bytes(values: Words) -> memoryview:
    return values.reshape(-1).view(np.uint8).data


def _array(received: Buffer, dtype: type, size: int) -> NDArray:  # type: ignore[type-arg]
    """Read a frame of exactly so many numbers."""
    expected = size * np.dtype(dtype).itemsize
    if len(received) != expected:
        raise ProtocolError(f"a frame of {len(received)} bytes; expected {expected}")
    return np.frombuffer(received, dtype)
