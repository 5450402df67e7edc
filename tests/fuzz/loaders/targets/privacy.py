"""A site's privacy ledger: its chain, its head, its key, the units and the kept releases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import primia_flwr.privacy.mechanisms.statistics as noisy
from primia_flwr.privacy.accounting.run_plan import Wish
from primia_flwr.privacy.ledger.chain import CHAIN, Entry
from primia_flwr.privacy.ledger.ledger import Ledger
from primia_flwr.privacy.ledger.view import read_ledger
from tests.fuzz.loaders.target import Made, put, target

OPENING = {"site": "a", "unit": "patient", "delta": 1e-6, "ceiling": 3.0}
REQUEST = {"run": "r", "instance": 1, "request": b"q"}


class Kept:
    """A ledger with one charge, one of whose files is replaced before each look at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "privacy"
        with Ledger.open(self.folder, **OPENING) as ledger:  # type: ignore[arg-type]
            version = ledger.register(["p1", "p2"])
            ledger.plan(version, run="r", wish=Wish((noisy.cost(5.0),)))
            receipt = ledger.charge(version, event=noisy.cost(5.0), what="w", **REQUEST)  # type: ignore[arg-type]
            ledger.store(receipt, b"answer")
        self.honest = {p: p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def file(self, pattern: str) -> Path:
        return next(path for path in self.honest if path.match(pattern))

    def read(self, pattern: str, raw: bytes) -> None:
        """Look at the ledger, then charge on it, with one file replaced."""
        shutil.rmtree(self.folder)  # and with it what an earlier look has left
        for path, content in self.honest.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path, content)
        put(self.file(pattern), raw)
        with read_ledger(self.folder) as ledger:
            ledger.charges()  # perhaps none: a whole ledger replaced is what witnesses are for
            ledger.verify_data()
            ledger.most_used()
        with Ledger.open(self.folder, **OPENING) as ledger:  # type: ignore[arg-type]
            ledger.stored(**REQUEST)  # type: ignore[arg-type]
            version = ledger.register(["p1", "p2"])
            ledger.charge(
                version, run="s", instance=2, request=b"p", event=noisy.cost(5.0), what="w"
            )

    def target(self, pattern: str) -> Made:
        return Made(lambda raw: self.read(pattern, raw), [self.honest[self.file(pattern)]])


@target("ledger")
def ledger(folder: Path) -> Made:
    kept = Kept(folder)
    witnesses = (".newest", ".release")  # as of before there were any: else none that fits is read
    kept.honest = {p: raw for p, raw in kept.honest.items() if p.suffix not in witnesses}

    def chained(raw: bytes) -> bytes:
        """Make hashes and head fit, as somebody with the folder could."""
        entries: list[Entry] = []
        for text in raw.splitlines():
            old = json.loads(text)
            previous = entries[-1].hash if entries else "0" * 64
            given = (old[name] for name in ("time", "nonce", "kind", "body"))
            entries.append(CHAIN.entry(len(entries) + 1, previous, *given))
        head = {"hash": entries[-1].hash, "seq": len(entries)}
        kept.honest[kept.file("head.json")] = json.dumps(head, sort_keys=True).encode() + b"\n"
        return b"".join(CHAIN.line(entry) for entry in entries)

    return kept.target("ledger.jsonl")._replace(repair=chained)


@target("ledger head")
def ledger_head(folder: Path) -> Made:
    return Kept(folder).target("head.json")


@target("ledger key")
def ledger_key(folder: Path) -> Made:
    return Kept(folder).target("unit.key")


@target("ledger units")
def ledger_units(folder: Path) -> Made:
    return Kept(folder).target("data/*.units")


@target("kept release")
def kept_release(folder: Path) -> Made:
    return Kept(folder).target("releases/*.release")
