"""What a fuzzer feeds: a loader, honest examples of what it reads, and where it is registered.

    @target("roster")
    def roster(folder: Path) -> Made:
        federation = provision(...)
        return Made(lambda raw: load_roster(put(file, raw)), [federation.roster_file.read_bytes()])

Every module of `targets/` is imported; which loaders a target covers is seen by
running it on its own examples (`coverage`), not stated.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Load = Callable[[bytes], object]


class Made(NamedTuple):
    """A target that is ready.

    `load` takes bytes and raises a `PrimiaError` where it refuses them. `seeds` are accepted:
    the product's own writer made them. `repair` makes checksums fit again after a change, so that
    what lies behind them is reached. `odd` are further beginnings that nobody honest writes.
    `share`: of the time, of which what strangers send gets more.
    """

    load: Load
    seeds: list[bytes]
    repair: Callable[[bytes], bytes] | None = None
    odd: tuple[bytes, ...] = ()
    share: int = 1


Maker = Callable[[Path], Made]
TARGETS: dict[str, Maker] = {}


def target(name: str) -> Callable[[Maker], Maker]:
    """Register what makes a target in a folder of its own."""

    def add(maker: Maker) -> Maker:
        if name in TARGETS:
            raise ValueError(f"two targets are called {name}")
        TARGETS[name] = maker
        return maker

    return add


def make(name: str, folder: Path) -> Made:
    """Make a target in a new folder below `folder`."""
    own = folder / name.replace(" ", "-")
    own.mkdir(parents=True)
    return TARGETS[name](own)


def choice(raw: bytes, among: int) -> tuple[int, bytes]:
    """Return which of several things an input is for, by its first byte, and the rest of it."""
    return (raw or b"\0")[0] % among, raw[1:]


def put(file: Path, raw: bytes) -> Path:
    """Write a file and return its path."""
    file.write_bytes(raw)
    return file


def names() -> list[str]:
    """Return the names of all targets."""
    for module in sorted((Path(__file__).parent / "targets").glob("*.py")):
        importlib.import_module(f"tests.fuzz.loaders.targets.{module.stem}")
    return sorted(TARGETS)
