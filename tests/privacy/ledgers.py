"""Ledgers for tests: one site, times that go forward by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primia_flwr.privacy.accounting.events import AnyEvent, Gaussian
from primia_flwr.privacy.ledger.ledger import Ledger, Receipt

DELTA = 1e-4
NOISY = Gaussian(noise_multiplier=20.0)
PATIENTS = ("anna", "ben", "cleo")


def open_ledger(folder: Path, **given: Any) -> Ledger:
    settings = {"site": "munich", "unit": "patient", "delta": DELTA, "ceiling": 3.0, "wait": 0.2}
    return Ledger.open(folder, **{**settings, **given})


def charge(
    ledger: Ledger,
    version: str,
    *,
    run: str = "run-1",
    instance: int = 1,
    request: bytes = b"model 1",
    event: AnyEvent = NOISY,
) -> Receipt:
    return ledger.charge(
        version,
        run=run,
        instance=instance,
        request=request,
        event=event,
        what=f"noisy update of round {instance}",
    )


def fill(folder: Path, rounds: int = 3, patients: Sequence[str] = PATIENTS) -> None:
    """A ledger with its first entry, one version, and `rounds` charges."""
    with open_ledger(folder) as ledger:
        version = ledger.register(patients)
        for number in range(1, rounds + 1):
            ledger.store(charge(ledger, version, instance=number), b"noise %d" % number)
