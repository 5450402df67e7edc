"""How the crypto provider sends a block: to both at once, the next part made meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from primia_flwr.errors import ServiceError
from primia_flwr.inference.service.provider import _send
from primia_flwr.inference.transport.messages import Kind

WAIT = 10.0


class Line:
    """A channel that notes what is sent; `gate` holds a send back, an error ends it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.begun, self.gate = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def send(self, kind: int, part: bytes) -> None:
        assert kind == Kind.PART
        self.begun.set()
        assert self.gate.wait(WAIT)
        if self.error is not None:
            raise self.error
        self.sent.append(part)


def parts(dealt: list[int]) -> Iterator[tuple[bytes, bytes]]:
    for number in range(3):
        dealt.append(number)
        yield bytes([number]), bytes([10 + number])


def test_both_are_sent_to_at_once_and_the_next_part_is_made_meanwhile() -> None:
    mine, theirs, dealt = Line(), Line(), list[int]()
    thread = threading.Thread(target=_send, args=((mine, theirs), parts(dealt)))
    thread.start()
    assert mine.begun.wait(WAIT)
    assert theirs.begun.wait(WAIT)  # while nothing has left to the first
    for _ in range(1000):
        if dealt == [0, 1]:
            break
        threading.Event().wait(0.01)
    assert dealt == [0, 1]  # one ahead, not more
    theirs.gate.set()
    mine.gate.set()
    thread.join(WAIT)
    assert mine.sent == [b"\0", b"\1", b"\2"]
    assert theirs.sent == [b"\n", b"\x0b", b"\x0c"]


def test_a_party_that_has_gone_ends_the_block() -> None:
    mine, theirs, dealt = Line(), Line(), list[int]()
    mine.error = ServiceError("the data owner has gone")
    mine.gate.set()
    theirs.gate.set()
    with pytest.raises(ServiceError, match="the data owner has gone"):
        _send((mine, theirs), parts(dealt))  # type: ignore[arg-type]
    assert dealt == [0, 1]
    assert theirs.sent == [b"\n"]
