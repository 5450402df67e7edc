"""Many images, one session after the other: a failed batch is tried again with fresh randomness."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from primia_flwr.errors import PrimiaError, ServiceError
from primia_flwr.inference.protocol.plausibility import Verdict, verdict
from primia_flwr.inference.service.crypten_batches import StockSession
from primia_flwr.inference.service.data_owner import Session
from primia_flwr.inference.service.negotiation import Answer

_Load = Callable[[int], Tensor]
AnySession = Session | StockSession


@dataclass(frozen=True)
class Opinion:
    """The scores (classes,), float64, of image `index`, and its part of what its batch took.

    `scores` is None unless the verdict is that they are plausible. If the audit found a number
    outside the ring, of which image of the batch, nobody knows.
    """

    index: int
    scores: Tensor | None
    verdict: Verdict
    seconds: float
    bytes_sent: int
    bytes_received: int


def opinion_of(answer: Answer, row: int, *, index: int, share: int = 1) -> Opinion:
    """Return image `index`'s part of an answer: its `row`, one of `share` images that count."""
    scores = None if answer.scores is None else answer.scores[row]
    found = verdict(scores)
    return Opinion(
        index,
        scores if found == Verdict.PLAUSIBLE else None,
        found,
        answer.seconds / share,
        answer.bytes_sent // share,
        answer.bytes_received // share,
    )


def classify_all(
    open_session: Callable[[int], AnySession],
    load: _Load,
    indices: Sequence[int],
    *,
    batch: int,
    attempts: int = 3,
    on_error: Callable[[PrimiaError], None] = lambda _: None,
) -> Iterator[Opinion]:
    """Have images classified, in order.

    Parameters
    ----------
    open_session : callable
        Opens a session for so many batches.
    load : callable
        Returns image i, normalised, (C, H, W) float.
    indices : sequence of int
        Which images.
    batch : int
        Images a batch; the last one is filled up with repetitions of its last image.
    attempts : int
        How often one batch is tried; each time in a new session, with fresh randomness.
    on_error : callable
        Told why a session ended early.

    Raises
    ------
    PrimiaError
        If the same batch has failed as often as that, or the session cannot be opened.
    """
    batches = [list(indices[at : at + batch]) for at in range(0, len(indices), batch)]
    done = failed = 0
    while done < len(batches):
        with open_session(len(batches) - done) as session:
            try:
                session.fetch_ahead()
                for current in batches[done : done + session.batches]:
                    yield from _classify(session, load, current, batch)
                    done, failed = done + 1, 0
            except ServiceError as error:
                failed += 1
                if failed >= attempts:
                    raise
                on_error(error)
                session.abandon()


def _classify(session: AnySession, load: _Load, batch: list[int], size: int) -> Iterator[Opinion]:
    images = []
    for index in batch:
        images.append(load(index))
        session.maintain()  # a large batch takes its time
    images += [images[-1]] * (size - len(images))
    answer = session.classify(torch.stack(images))
    for row, index in enumerate(batch):
        yield opinion_of(answer, row, index=index, share=len(batch))
