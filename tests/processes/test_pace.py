"""Shorter waits in Flower, where this Flower has the waits."""

from __future__ import annotations

import importlib
import time
import types
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


def test_the_clock_is_lively_only_while_messages_come(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("flower")
    module.time = time  # type: ignore[attr-defined]
    assert pace.hasten_messages(module)
    slept: list[float] = []
    now = [1000.0]
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    module.time.sleep(3)  # no message yet
    module.time.sleep(0.5)  # waiting for the answer to one
    module.time.sleep(3)
    now[0] += pace.LIVELY_FOR
    module.time.sleep(3)
    assert slept == [3, 0.25, 0.25, 3]
    assert module.time.monotonic() == now[0], "all else is that of `time`"
