"""A site's process that is killed (SIGKILL) before each of its system calls, then goes on.

Whatever the moment: what left the house was charged before, and the ledger can be used again.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from primia_flwr.errors import DataError
from primia_flwr.privacy.ledger.file import HEAD, LEDGER
from tests.faults.killed import run_killed
from tests.privacy.ledgers import PATIENTS, charge, open_ledger

_ROUNDS = 2


def play(folder: Path, outside: Path) -> None:
    """Answer two rounds; a line in `outside`, beyond the site, is what left the house."""
    for number in range(1, _ROUNDS + 1):
        asked = {"run": "run-1", "instance": number, "request": b"model"}
        with open_ledger(folder, wait=5.0) as ledger:
            version = ledger.register(PATIENTS)
            kept = ledger.stored(**asked)  # type: ignore[arg-type]
            if kept is None:
                receipt = charge(ledger, version, instance=number, request=b"model")
                kept = os.urandom(8).hex().encode()
                ledger.store(receipt, kept)
        with outside.open("ab") as stream:
            stream.write(b"%d %s\n" % (number, kept))


def releases(outside: Path) -> set[tuple[bytes, bytes]]:
    """Different noise that left, by round: the same bytes again are no second release."""
    lines = outside.read_bytes().splitlines() if outside.exists() else []
    return {(number, noise) for number, noise in (line.split() for line in lines)}


def test_killed_anywhere_nothing_uncharged_leaves(tmp_path: Path) -> None:
    calls = 0
    while True:
        folder, outside = tmp_path / str(calls) / "ledger", tmp_path / f"{calls}.out"
        killed = run_killed(partial(play, folder, outside), calls)
        play(folder, outside)
        with open_ledger(folder) as ledger:
            charges = ledger.charges()
            paid = [str(charge.instance).encode() for charge in charges]
            kept = {n: ledger.stored(run="run-1", instance=n, request=b"model") for n in (1, 2)}
        left = releases(outside)
        for number in (b"1", b"2"):
            assert 1 <= len([1 for n, _ in left if n == number]) <= paid.count(number)
            assert len([1 for n, _ in left if n == number]) == 1, "a resumed round sends the same"
        assert {(str(n).encode(), noise) for n, noise in kept.items()} == left
        assert len(charges) <= _ROUNDS + 1, "at most the round in progress is charged twice"
        if not killed:
            break
        calls += 1
    assert calls > 40, "the whole way was walked"


def test_killed_twice_while_mending(tmp_path: Path) -> None:
    """The repair of a torn line is killed at each of its calls, too."""
    for calls in range(12):
        folder, outside = tmp_path / str(calls) / "ledger", tmp_path / f"{calls}.out"
        play(folder, outside)
        with (folder / LEDGER).open("ab") as stream:
            stream.write(b'{"body":')
        run_killed(partial(play, folder, outside), calls)
        play(folder, outside)
        with open_ledger(folder) as ledger:
            assert [charge.instance for charge in ledger.charges()] == [1, 2]


@pytest.mark.parametrize("lost", [LEDGER, HEAD])
def test_a_crash_that_loses_what_was_synced_is_refused(tmp_path: Path, lost: str) -> None:
    """A disk that forgets one of the two files is no crash that this ledger mends."""
    play(tmp_path / "ledger", tmp_path / "out")
    before = (tmp_path / "ledger" / lost).read_bytes()
    with open_ledger(tmp_path / "ledger") as ledger:
        for number in (3, 4):
            charge(ledger, ledger.charges()[0].version, instance=number)
    (tmp_path / "ledger" / lost).write_bytes(before)
    with pytest.raises(DataError):
        open_ledger(tmp_path / "ledger")
