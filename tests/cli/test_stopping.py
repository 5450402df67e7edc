from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from primia_flwr.cli.stopping import Stopping


@contextmanager
def as_in_a_terminal(number: signal.Signals) -> Iterator[None]:
    """Let a signal count that a `nohup` around the tests would have ignored."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_one_waits_for_what_is_in_hand(number: signal.Signals) -> None:
    done: list[str] = []
    with as_in_a_terminal(number), Stopping() as stopping:
        os.kill(os.getpid(), number)
        time.sleep(0.05)
        done.append("what was in hand")
        with pytest.raises(KeyboardInterrupt), stopping.breaks():
            done.append("more")
    assert done == ["what was in hand"]


def interrupted_while_asleep() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


def test_it_comes_at_once_where_it_may() -> None:
    started = time.monotonic()
    with Stopping() as stopping, pytest.raises(KeyboardInterrupt), stopping.breaks():
        interrupted_while_asleep()
    assert time.monotonic() - started < 5


def interrupted_twice() -> None:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)


def test_the_second_one_comes_at_once_everywhere() -> None:
    with Stopping(), pytest.raises(KeyboardInterrupt):
        interrupted_twice()


def test_what_was_set_before_is_set_again() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Stopping():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_in_another_thread_than_the_main_one_signals_are_left_alone() -> None:
    """A notebook's server, say, may train in a thread: Python lets only the main one listen."""
    before, failed = signal.getsignal(signal.SIGTERM), list[BaseException]()

    def work() -> None:
        try:
            with Stopping() as stopping, stopping.breaks():
                assert signal.getsignal(signal.SIGTERM) is before
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping() as stopping, stopping.breaks():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_counts_where_a_script_has_it_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stopping() as stopping, pytest.raises(KeyboardInterrupt), stopping.breaks():
            interrupted_twice()
    finally:
        signal.signal(signal.SIGINT, before)
