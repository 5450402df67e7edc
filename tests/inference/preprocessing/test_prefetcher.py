from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primia_flwr.errors import ProtocolError, ServiceError
from primia_flwr.inference.preprocessing.prefetcher import Prefetcher
from primia_flwr.inference.preprocessing.prepared import Prepared


class Opened(Prepared):
    """One that can be watched: who has it, and which it is."""

    number: int


def block(number: int) -> Prepared:
    made = Opened((), (), ())
    object.__setattr__(made, "number", number)
    return made


@contextmanager
def prefetcher(
    open_block: Callable[[int], Prepared] = block, *, total: int = 100, in_a_row: bool = False
) -> Iterator[Prefetcher]:
    opened = Prefetcher(open_block, total=total, in_a_row=in_a_row)
    try:
        yield opened
    finally:
        opened.close()


def test_blocks_are_given_in_order_each_once() -> None:
    with prefetcher() as blocks:
        for number in range(3):
            with blocks.block(number, 5) as prepared:
                assert prepared.number == number  # type: ignore[attr-defined]
        with pytest.raises(ProtocolError, match="block 1 was used or burned; expected 3"):
            blocks.wait(1, 5)
        with (
            pytest.raises(ProtocolError, match="block 7 is asked for; expected 3, the next"),
            blocks.block(7, 5),
        ):
            pass


def test_in_a_row_the_next_is_opened_while_one_is_in_use_and_no_third_one() -> None:
    begun: list[int] = []

    def watched(number: int) -> Prepared:
        begun.append(number)
        return block(number)

    with prefetcher(watched, in_a_row=True) as blocks:
        for number in range(3):
            with blocks.block(number, 5):
                blocks.wait(number + 1, 5)
                time.sleep(0.02)
                assert begun == list(range(number + 2))
        assert blocks.given == 3


def test_one_is_opened_ahead_and_never_a_second_one() -> None:
    begun: list[int] = []
    alive: weakref.WeakSet[Prepared] = weakref.WeakSet()

    def watched(number: int) -> Prepared:
        gc.collect()
        assert not alive, "one more is still there"
        begun.append(number)
        made = block(number)
        alive.add(made)
        return made

    with prefetcher(watched) as blocks:
        blocks.wait(0, 5)
        time.sleep(0.05)
        assert begun == [0]  # it waits for its use
        for number in range(5):
            with blocks.block(number, 5) as prepared:
                time.sleep(0.01)
                assert begun == list(range(number + 1))  # none while one is in use
                del prepared
        blocks.wait(5, 5)
        assert begun == list(range(6))


def test_what_cannot_be_opened_is_said_and_said_again() -> None:
    def broken(number: int) -> Prepared:
        raise ServiceError("the crypto provider has gone")

    with prefetcher(broken) as blocks:
        for _ in range(2):
            with pytest.raises(ServiceError, match="has gone"):
                blocks.wait(0, 5)
        assert blocks.error is not None


def test_a_fault_while_opening_is_an_error_of_the_service() -> None:
    with prefetcher(lambda _: [][0]) as blocks, pytest.raises(ServiceError, match="broke off"):
        blocks.wait(0, 5)


def test_who_waits_too_long_is_told_and_does_something_meanwhile() -> None:
    done, looked = threading.Event(), list[int]()

    def never(number: int) -> Prepared:
        done.wait(10)
        return block(number)

    with prefetcher(never) as blocks:
        with pytest.raises(ServiceError, match=r"no block of randomness came within 0\.1 s"):
            blocks.wait(0, 0.1, meanwhile=lambda: looked.append(1))
        done.set()
    assert looked


def test_what_is_open_when_it_ends_is_burned() -> None:
    made: list[weakref.ref[Prepared]] = []

    def watched(number: int) -> Prepared:
        prepared = block(number)
        made.append(weakref.ref(prepared))
        return prepared

    with prefetcher(watched) as blocks:
        blocks.wait(0, 5)
    gc.collect()
    assert [found() for found in made] == [None]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), max_size=12))
def test_whatever_is_asked_for_no_block_is_given_twice(asked: list[int]) -> None:
    opened, given_out = list[int](), list[int]()

    def watched(number: int) -> Prepared:
        opened.append(number)
        return block(number)

    with prefetcher(watched, total=5) as blocks:
        for number in asked:
            try:
                with blocks.block(number, 5) as prepared:
                    given_out.append(prepared.number)  # type: ignore[attr-defined]
            except ProtocolError:
                continue
            assert given_out[-1] == number
    assert len(set(given_out)) == len(given_out)
    assert given_out == sorted(given_out)
    assert opened == sorted(set(opened))
