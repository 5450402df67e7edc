"""Charging a site's privacy ledger: what leaves is paid for first, and never twice.

    with Ledger.open(folder, site="munich", unit="patient", delta=1e-6, ceiling=3.0) as ledger:
        ledger.check_witness(*head_that_the_coordinator_saw)
        version = ledger.register(patients, digests)         # of each image
        plan = ledger.plan(version, run=run, wish=wish)      # before training: refuse at once
        ...
        kept = ledger.stored(run=run, instance=4, request=message)
        if kept is None:
            receipt = ledger.charge(version, run=run, instance=4, request=message, event=event,
                                    what="noisy update of round 4")
            ledger.store(receipt, kept := noisy_bytes)
        # only now may `kept` leave, with ledger.head()

The order matters: charged, kept, sent. A crash between two of these steps leaves a charge for
something that never left, never the other way round. While a ledger is open it is locked: a second
run waits, then is refused. Open it shortly, not while training.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError, DataError, PrivacyBudgetError
from primia_flwr.privacy.accounting.events import AnyEvent, event_to_json
from primia_flwr.privacy.accounting.filter import ANY_CEILING, SiteFilter, check_delta
from primia_flwr.privacy.accounting.run_plan import RunPlan, Wish, plan_to_json
from primia_flwr.privacy.ledger import people as units_of
from primia_flwr.privacy.ledger.account import FORMAT, check_unit
from primia_flwr.privacy.ledger.file import LEDGER, LedgerFile
from primia_flwr.privacy.ledger.folder import KEY, check_unbegun
from primia_flwr.privacy.ledger.planned_runs import PlannedRun
from primia_flwr.privacy.ledger.releases import Releases
from primia_flwr.privacy.ledger.view import LedgerView

_KEPT = 3  # outputs a run; older rounds are over
_TEXT = re.compile(r"[\x20-\x7e]{1,200}")


@dataclass(frozen=True)
class Receipt:
    """A charge that is on the disk. `epsilon`: of the worst unit, after it."""

    seq: int
    head: str
    run: str
    epsilon: float
    ceiling: float | None


class Ledger(LedgerView):
    """A ledger open for charging, and locked; a context manager. Make one with `Ledger.open`."""

    def __init__(self, file: LedgerFile, ceiling: float | None) -> None:
        super().__init__(file)
        self.ceiling = ceiling
        self._key = b""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        site: str,
        unit: str,
        delta: float,
        ceiling: float | None,
        units: int | None = None,
        wait: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open a site's ledger for charging, or begin it.

        Parameters
        ----------
        unit : str
            `patient` or `image`: what neighbouring data sets differ in.
        delta : float
            Fixed for the life of the ledger.
        ceiling : float, optional
            On every unit's epsilon. A site may change it; the guarantee is that of the highest
            ceiling that ever was in force. None: no ceiling, but all is written down.
        units : int, optional
            How many there are: a ledger does not begin with a delta that is too large for them.
        wait : float
            Seconds to wait for another run that has it open.

        Raises
        ------
        ConfigError
            If a parameter is out of range or differs from the one that the ledger began with.
        DataError
            If it was changed, cut off, or is in use.
        """
        check_unit(unit)
        check_delta(delta, None if (folder / LEDGER).exists() else units)  # else fixed for good
        if ceiling is not None:
            check_range("privacy.ceiling", ceiling, 0, 1000, example=3, open_low=True)
        file = LedgerFile(folder, wait=wait, clock=clock)
        try:
            if not file.entries:
                planned = ceiling or ANY_CEILING
                _begin(file, site, unit, SiteFilter.planned(epsilon=planned, delta=delta))
            ledger = cls(file, ceiling)
            ledger._check_constants(site=site, unit=unit, delta=delta)
            ledger._take_key()
            return ledger
        except BaseException:
            file.close()
            raise

    def register(self, units: Iterable[str], images: Sequence[str] | None = None) -> str:
        """Return the version of the data that has these units; the same data, the same version.

        Parameters
        ----------
        units : iterable of str
            Of every image the name of its patient (or its own).
        images : sequence of str, optional
            The SHA-256 of every image's file, hexadecimal, in the units' order. Whoever is in an
            earlier version by name or by an image has what was spent there. Without images a
            patient is known again by the name alone.

        Raises
        ------
        ConfigError
            If the ledger's delta is not below 1/n.
        DataError
            If there is no unit, or the version cannot be written down.
        """
        found = units_of.rows(self._key, units, images)
        count = units_of.count_units(found)
        check_delta(self.account.constants.filter.delta, count)
        version, content = units_of.version_of(found)
        if version not in self.account.versions:
            units_of.write_version(self._file.folder, version, content)
            entry = self._file.append("data", {"version": version, "units": count})
            units_of.keep_version(self._file.folder, version)
            self.account.add(entry)
            self._groups = None
        return version

    def persons(self, names: Iterable[str]) -> dict[str, units_of.Person]:
        """Return the versions of the data that the people of some names are in.

        Raises
        ------
        DataError
            If a version cannot be read.
        """
        folder = self._file.folder
        versions = {name: units_of.read_version(folder, name) for name in self.account.versions}
        return units_of.persons(self._key, versions, names)

    def plan(self, version: str, *, run: str, wish: Wish) -> RunPlan:
        """Return the plan of a run; solved for and written down at the first call.

        In a ledger that knows no planned runs it is solved for each time, and stands nowhere.

        Raises
        ------
        ConfigError
            If no noise is large enough.
        PrivacyBudgetError
            If a unit would pass the ceiling. Nothing is written.
        DataError
            As `afford`, or if it cannot be written.
        """
        _check_text("run", run)
        self._check_version(version, run)
        for planned in reversed(self.account.runs.of(version, run)):
            if wish.met_by(planned.plan):
                return planned.plan
        chosen = self.account.constants.filter
        plan = wish.solve(chosen, ceiling=self.ceiling)
        if chosen.runs:
            self._write(version, run, plan)
        return plan

    def cover(self, version: str, *, run: str, event: AnyEvent) -> None:
        """See that a plan has room for an event of a run; one beyond its plans is one of its own.

        Raises
        ------
        PrivacyBudgetError, DataError
            As `plan`.
        """
        runs = self.account.runs.of(version, run)
        if runs and not any(planned.covers(event) for planned in runs):
            chosen = self.account.constants.filter
            self._write(version, run, Wish((event,)).solve(chosen, ceiling=self.ceiling))

    def afford(
        self, version: str, *, run: str, events: Sequence[AnyEvent], plan: RunPlan | None = None
    ) -> float:
        """Return the worst unit's epsilon after these events; refuse if it passes the ceiling.

        Parameters
        ----------
        events : sequence of events
            Of a run; they come off its plan, where it has one.
        plan : RunPlan, optional
            That would be written down before.

        Raises
        ------
        PrivacyBudgetError
            If it does. Nothing is written in either case.
        DataError
            If the version is unknown, or the run began on another.
        """
        self._check_version(version, run)
        spent = self.spent(version)
        more = [] if plan is None else [PlannedRun(0, run, version, plan)]
        after = self.account.epsilon(version, self._grouped(), events, run=run, more=more)
        if self.ceiling is not None and not after <= self.ceiling:
            constants = self.account.constants
            raise PrivacyBudgetError(
                f"epsilon of {constants.site}'s most used {constants.unit} would be {after:.4g} "
                f"(spent {spent:.4g}); expected at most the site's ceiling {self.ceiling:g} at "
                f"delta={constants.filter.delta:g}; ask for more noise or fewer steps (primia "
                "privacy plan), or ask the site for a higher ceiling"
            )
        return after

    def charge(
        self, version: str, *, run: str, instance: int, request: bytes, event: AnyEvent, what: str
    ) -> Receipt:
        """Charge every unit of a version for one release; on the disk when this returns.

        Parameters
        ----------
        run, instance, request
            Which run and round asked, and the bytes of what it asked for (in an aggregate, with
            the list of survivors): together they name the release.
        what : str
            What leaves, in words, for people who read the ledger.

        Raises
        ------
        PrivacyBudgetError
            If a unit would pass the ceiling. Nothing is written.
        DataError
            As `afford`, or if it cannot be written; then nothing may leave.
        """
        _check_text("run", run)
        _check_text("what", what)
        if isinstance(instance, bool) or not isinstance(instance, int) or instance < 0:
            raise DataError(f"instance={instance!r}; expected a whole number of at least 0")
        after = self.afford(version, run=run, events=[event])
        entry = self._file.append(
            "charge",
            {
                "version": version,
                "run": run,
                "instance": instance,
                "request": _digest(request),
                "what": what,
                "event": event_to_json(event),
                "ceiling": self._ceiling(),
                "epsilon": after,
            },
        )
        self.account.add(entry)
        return Receipt(entry.seq, entry.hash, run, after, self.ceiling)

    def store(self, receipt: Receipt, content: bytes) -> None:
        """Keep the output of a charge for a repeated request; durable when this returns.

        Raises
        ------
        DataError
            If it cannot be written; then it must not leave.
        """
        releases = Releases(self._file.folder, self._key)
        releases.write(receipt.seq, receipt.head, content)
        of_run = [(c.seq, c.hash) for c in self.account.charges if c.run == receipt.run]
        releases.drop(of_run[:-_KEPT])

    def stored(self, *, run: str, instance: int, request: bytes) -> bytes | None:
        """Return the bytes that were released for the very same request; None: charge anew.

        Raises
        ------
        DataError
            If they were changed.
        """
        releases = Releases(self._file.folder, self._key)
        wanted = (run, instance, _digest(request))
        for charge in reversed(self.account.charges):
            if (charge.run, charge.instance, charge.request) == wanted:
                kept = releases.read(charge.seq, charge.hash)
                if kept is not None:
                    return kept
        return None

    def _write(self, version: str, run: str, plan: RunPlan) -> None:
        """Write a plan down, if all of it can be afforded."""
        self.afford(version, run=run, events=plan.events, plan=plan)
        body = {"version": version, "run": run, "ceiling": self._ceiling(), **plan_to_json(plan)}
        self.account.add(self._file.append("planned", body))

    def _ceiling(self) -> float | None:
        return None if self.ceiling is None else float(self.ceiling)

    def _check_version(self, version: str, run: str) -> None:
        if version not in self.account.versions:
            raise DataError(
                f"data version {version[:12]}… is not in {self._file.path}; expected one that was "
                "registered"
            )
        before = self.account.version_of(run)
        if before not in (None, version):
            was, now = self.account.versions[before or ""], self.account.versions[version]
            raise DataError(
                f"the data changed since run {run} began: {was} {self.account.constants.unit}s "
                f"then, {now} now; its sampling rate no longer holds, so nothing is released; "
                "put the data of that run back, or start a new run"
            )

    def _check_constants(self, **given: str | float) -> None:
        constants = self.account.constants
        known = {"site": constants.site, "unit": constants.unit, "delta": constants.filter.delta}
        for name, value in given.items():
            if known[name] != value:
                raise ConfigError(
                    f"privacy.{name}={value}; expected {known[name]!r:.80}, with which "
                    f"{self._file.path} began and which cannot change; set it so, or give "
                    "patients whom this ledger has never seen another folder"
                )

    def _take_key(self) -> None:
        key = units_of.read_key(self._file.folder)
        stated = self.account.constants.key.encode("utf-8", "replace")
        if not hmac.compare_digest(units_of.fingerprint(key).encode(), stated):
            raise DataError(
                f"{self._file.folder / KEY} is not the key with which the ledger began; "
                "no patient would be known again, so nothing is released; put that key back"
            )
        self._key = key


def _begin(file: LedgerFile, site: str, unit: str, chosen: SiteFilter) -> None:
    check_unbegun(file.folder)
    _check_text("site", site)
    key = units_of.make_key(file.folder)
    file.append(
        "opened",
        {
            "format": FORMAT,
            "id": secrets.token_hex(16),
            "site": site,
            "unit": unit,
            "delta": float(chosen.delta),
            "orders": list(chosen.orders),
            "shares": list(chosen.rdp.shares),
            "runs": float(chosen.runs),
            "key": units_of.fingerprint(key),
        },
    )
    units_of.keep_key(file.folder)


def _digest(request: bytes) -> str:
    return hashlib.sha256(request).hexdigest()


def _check_text(name: str, value: str) -> None:
    if not _TEXT.fullmatch(value):
        raise DataError(f"{name}={value[:40]!r}; expected 1 to 200 printable ASCII characters")
