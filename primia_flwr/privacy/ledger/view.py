"""What a site's privacy ledger says, without changing it: heads, spending, soundness."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from primia_flwr.errors import DataError
from primia_flwr.privacy.accounting.filter import Spent
from primia_flwr.privacy.accounting.run_plan import price
from primia_flwr.privacy.ledger import people as units_of
from primia_flwr.privacy.ledger.account import Account, Charge
from primia_flwr.privacy.ledger.file import Head, LedgerFile
from primia_flwr.storage.chain import GENESIS

_PRICES_MAY_DIFFER = 1e-3  # between versions of dp-accounting


class LedgerView:
    """An open ledger to look at; a context manager. Make one with `read_ledger`."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file
        self.account = Account(file.entries, file.path)
        self._groups: Counter[units_of.Person] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the ledger."""
        self._file.close()

    def head(self) -> Head:
        """Return number and hash of the newest entry, for witnesses to keep."""
        return self._file.head

    def answers(self) -> tuple[int, str]:
        """Return how many answers were paid for and the hash of the newest one's entry.

        For witnesses elsewhere: unlike the number of entries it does not count changes of the data.
        """
        charges = self.account.charges
        return len(charges), charges[-1].hash if charges else GENESIS

    def unfinished(self) -> int:
        """Return the bytes of a last line that a crash cut short; only `read` leaves one there."""
        return len(self._file.unfinished)

    def check_witness(self, seq: int, head: str) -> None:
        """Compare with a head that somebody else remembers of this ledger.

        Raises
        ------
        DataError
            If the ledger is behind it, or has another entry in that place.
        """
        entries = self._file.entries
        if seq > len(entries):
            raise DataError(
                f"{self._file.path} ends at entry {len(entries)}, but a witness has seen entry "
                f"{seq}; an old copy was put back, or the end was cut off; nothing is released; "
                "put the newest copy back, or give this data up for private runs"
            )
        if seq > 0 and not hmac.compare_digest(entries[seq - 1].hash.encode(), head.encode()):
            raise DataError(
                f"{self._file.path}, entry {seq} has hash {entries[seq - 1].hash[:12]}…, but a "
                f"witness has seen {head[:12]}…; this is another ledger, or it went on from an old "
                "copy; nothing is released; put the right one back"
            )

    def check_answers(self, answers: int, digest: str) -> None:
        """Compare with how many answers somebody else remembers, and the hash of the newest.

        Raises
        ------
        DataError
            If the ledger has fewer, or has paid for another one in that place.
        """
        charges = self.account.charges
        if answers > len(charges):
            raise DataError(
                f"{self._file.path} has paid for {len(charges)} answers, but a witness has seen "
                f"answer {answers}; an old copy was put back, or the end was cut off; nothing is "
                "released; put the newest copy back, or give this data up for private runs"
            )
        if answers > 0:
            self.check_witness(charges[answers - 1].seq, digest)

    def spent(self, version: str) -> float:
        """Return what the most used unit of a version has spent, by the filter."""
        return self.account.epsilon(version, self._grouped())

    def most_used(self) -> Spent:
        """Return the spending of the unit that has spent most of all."""
        return self.account.most_used(self._grouped())

    def charges(self) -> Sequence[Charge]:
        """Return all charges, the oldest first."""
        return tuple(self.account.charges)

    def verify_plans(self) -> None:
        """Price every plan anew.

        Raises
        ------
        DataError
            If one costs more than the ledger says.
        """
        for planned in self.account.runs.plans:
            plan = planned.plan
            found = price(plan.events, plan.delta).epsilon
            if found > plan.epsilon * (1 + _PRICES_MAY_DIFFER):
                raise DataError(
                    f"{self._file.path}, line {planned.seq}: the plan of run {planned.run} has "
                    f"epsilon {plan.epsilon:.6g}; expected {found:.6g} at delta {plan.delta:.3g}; "
                    "the entry was not written by this software; nothing is released; ask the "
                    "coordinator which head it saw last"
                )

    def verify_data(self) -> None:
        """Read every version's units.

        Raises
        ------
        DataError
            If a file is missing or was changed.
        """
        self._groups = None
        self._grouped()

    def _grouped(self) -> Counter[units_of.Person]:
        if self._groups is None:
            folder = self._file.folder
            self._groups = units_of.people(
                {name: units_of.read_version(folder, name) for name in self.account.versions}
            )
        return self._groups


def read_ledger(folder: Path, *, wait: float = 10.0) -> LedgerView:
    """Open a ledger to look at it; nothing is written, no key is needed.

    Raises
    ------
    DataError
        If it does not exist, was changed, or is in use.
    """
    file = LedgerFile(folder, read_only=True, wait=wait)
    try:
        ledger = LedgerView(file)
        ledger.account.constants  # noqa: B018 - an empty ledger is an error here
        return ledger
    except BaseException:
        file.close()
        raise
