"""What a fuzzer starts from is accepted: else it would fuzz refusals only."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.mutation import Mutator, join, read, split
from tests.fuzz.targets import SEALED, TARGETS, seeds

SEEDS = list(seeds())


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_accepted_and_rubbish_is_not(name: str) -> None:
    own = [raw for of, raw in SEEDS if of == name]
    assert own
    assert all(TARGETS[name](raw) for raw in own)
    assert not TARGETS[name](b"rubbish\n")


def test_a_target_that_is_broken_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.targets.SEALED", b"another")
    with pytest.raises(AssertionError):
        TARGETS["sealed"](SEALED)


@pytest.mark.parametrize("seed", range(20))
def test_most_changes_of_a_message_leave_it_one(seed: int) -> None:
    messages = [raw for name, raw in SEEDS if name == "message"]
    mutator = Mutator(random.Random(seed), bytes.swapcase)
    changed = [mutator.change(raw) for raw in messages]
    assert changed != messages
    assert sum(read(raw) is not None for raw in changed) > len(messages) / 3
    assert all(join(split(raw)) == raw for raw in messages)
