"""Secure aggregation: the targets of the coverage-guided fuzzer, and files beside the vault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from primia_flwr.errors import ProtocolError
from primia_flwr.secagg.protocol.vault import Vault
from primia_flwr.secagg.state.given_once import GivenOnce
from primia_flwr.secagg.state.journal import Journal
from primia_flwr.secagg.state.round_numbers import RoundNumbers
from tests.fuzz import targets as wire
from tests.fuzz.loaders.target import Made, put, target
from tests.fuzz.stage import ME, STAGE


def _wire(name: str) -> Callable[[Path], Made]:
    def load(raw: bytes) -> None:
        if not wire.TARGETS[name](raw):
            raise ProtocolError("refused")

    def make(folder: Path) -> Made:
        return Made(load, [raw for of, raw in wire.seeds() if of == name])

    return make


for _name in wire.TARGETS:
    target(f"wire {_name}")(_wire(_name))


@target("newest instance")
def newest(folder: Path) -> Made:
    vault = Vault(folder, STAGE.everyone[ME])
    vault.begin(1)

    def load(raw: bytes) -> None:
        put(folder / "last", raw)
        assert vault.begin(99).number == 99

    return Made(load, [(folder / "last").read_bytes()])


@target("round numbers")
def rounds(folder: Path) -> Made:
    file = folder / "rounds.json"
    RoundNumbers(file).record("train", 3, b"base")

    def load(raw: bytes) -> None:
        put(file, raw)
        RoundNumbers(file).check("train", 4, b"other")

    return Made(load, [file.read_bytes()])


@target("sums into which updates were given")
def given(folder: Path) -> Made:
    file = folder / "given.json"
    GivenOnce(file).mask(1, b"model", b"one", bound=False)
    GivenOnce(file).release(1, ["munich", "paris"])

    def load(raw: bytes) -> None:
        put(file, raw)
        GivenOnce(file).check(b"other", b"two")

    return Made(load, [file.read_bytes()])


@target("count of a journal")
def count(folder: Path) -> Made:
    file = folder / "answered.jsonl"
    Journal(file).record([b"model", b"round"], ["munich", "paris", "zürich"])
    head = file.with_name(file.name + ".head")

    def load(raw: bytes) -> None:
        put(head, raw)
        Journal(file).record([b"model"], ["munich", "paris", "zürich"])

    return Made(load, [head.read_bytes()])
