"""Shorter waits in Flower, where this Flower has the waits."""

from __future__ import annotations

import importlib
import time
import types
from pathlib import Path
from typing import Any

import pytest
from flwr.supercore.inflatable import inflatable_utils

from primia_flwr.processes import pace


def _flower(**defaults: Any) -> types.ModuleType:
    module = types.ModuleType("flower")

    def pull_objects() -> None: ...

    pull_objects.__kwdefaults__ = defaults
    module.pull_objects = pull_objects  # type: ignore[attr-defined]
    return module


def test_the_flower_that_is_installed_has_the_pauses_that_are_shortened() -> None:
    assert pace.hasten_transfers(inflatable_utils)
    found = inflatable_utils.pull_objects.__kwdefaults__
    assert (found["initial_backoff"], found["backoff_cap"]) == (0.02, 0.5)
    node = importlib.import_module("flwr.supernode.start_client_internal")
    assert getattr(node, "time", None) is not None


def test_it_waits_as_long_in_all_as_before() -> None:
    module = _flower(initial_backoff=1, backoff_cap=10, max_tries_per_object=500, max_time=7200)
    assert pace.hasten_transfers(module)
    found = module.pull_objects.__kwdefaults__
    assert found["max_time"] == 7200
    # even if each of the tries waited no longer than the first
    assert found["max_tries_per_object"] * pace.FIRST_PAUSE >= 7200


def test_another_flower_is_left_alone() -> None:
    module = _flower(backoff=1)
    assert not pace.hasten_transfers(module)
    assert module.pull_objects.__kwdefaults__ == {"backoff": 1}
    assert not pace.hasten_messages(types.ModuleType("flower"))


class Clock:
    """A module of Flower that was hastened, the sleeps that it asks for, and the time it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.slept, self.now = types.ModuleType("flower"), list[float](), 1000.0
        self.module.time = time  # type: ignore[attr-defined]
        assert pace.hasten_messages(self.module)
        monkeypatch.setattr(time, "sleep", self.slept.append)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.module.time.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_clock_is_lively_only_while_messages_come(clock: Clock) -> None:
    clock.sleep(3)  # no message yet
    clock.sleep(0.5)  # waiting for the answer to one
    clock.sleep(3)
    clock.now += pace.LIVELY_FOR
    clock.sleep(3)
    assert clock.slept == [3, 0.03, 0.25, 3]
    assert clock.module.time.monotonic() == clock.now, "all else is that of `time`"


def test_an_answer_is_looked_for_often_at_first(clock: Clock) -> None:
    for moment in (0.0, 0.03, 1.0, 1.05, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0):
        clock.now = 1000 + moment
        clock.sleep(0.5)
    # 1.0 and 7.0 are more than half a second after the look before: another message.
    growing = [0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25]
    assert clock.slept == [*[0.03] * 5, *growing, 0.03]


def test_who_listens_wakes_when_the_bell_is_rung(tmp_path: Path) -> None:
    bell = tmp_path / "bell"
    listening, ringing = types.ModuleType("listening"), types.ModuleType("ringing")
    listening.time = time  # type: ignore[attr-defined]
    ringing.pull = lambda *, found: found  # type: ignore[attr-defined]
    assert pace.listen(listening, bell)
    assert pace.ring_after(ringing, "pull", bell)
    assert _seconds(listening, 0.3) >= 0.3  # nobody rang
    assert ringing.pull(found=None) is None
    assert not bell.exists()  # nothing has come
    assert ringing.pull(found=7) == 7
    assert _seconds(listening, 30) < 5
    assert _seconds(listening, 0.1) >= 0.1  # once for each ring
    assert ringing.pull(found=8) == 8
    assert _seconds(listening, 30) < 5
    assert listening.time.monotonic


def test_a_bell_that_cannot_be_touched_costs_time_alone(tmp_path: Path) -> None:
    ringing = types.ModuleType("ringing")
    ringing.pull = lambda: 7  # type: ignore[attr-defined]
    assert pace.ring_after(ringing, "pull", tmp_path / "missing" / "bell")
    assert ringing.pull() == 7
    assert not pace.ring_after(ringing, "push", tmp_path / "bell")
    assert not pace.listen(types.ModuleType("flower"), tmp_path / "bell")


def _seconds(module: types.ModuleType, at_most: float) -> float:
    began = time.monotonic()
    module.time.sleep(at_most)
    return time.monotonic() - began
