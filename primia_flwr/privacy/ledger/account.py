"""What the entries of a ledger say, and what a unit has spent by them.

Somebody's spending is the sum over all charges on versions of the data that contain this person,
perhaps as several units. Who is in the same versions has spent the same, so sums are kept by
version and added up by group. It is one vector: epsilons and deltas of the planned runs that began,
and Rényi divergences of what was charged. Plans hold for one unit: who is several units of a
version is counted by divergences alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primia_flwr.errors import ConfigError, DataError
from primia_flwr.privacy.accounting.events import AnyEvent, Rdp, event_from_json, total_rdp
from primia_flwr.privacy.accounting.filter import RdpFilter, SiteFilter, Spent
from primia_flwr.privacy.accounting.run_plan import plan_from_json
from primia_flwr.privacy.ledger.chain import Entry
from primia_flwr.privacy.ledger.people import Person
from primia_flwr.privacy.ledger.planned_runs import BEYOND, PlannedRun, PlannedRuns, Price
from primia_flwr.storage.reading import reason_of

FORMAT = 2
_BEFORE_PLANS = 1  # the format that knows no planned runs; such ledgers go on without
_UNITS = ("patient", "image")
_TYPES: dict[str, dict[str, tuple[type, ...]]] = {
    "opened": {
        **dict.fromkeys(("id", "site", "unit", "key"), (str,)),
        **dict.fromkeys(("orders", "shares"), (list,)),
        **dict.fromkeys(("delta", "runs"), (float,)),
        "format": (int,),
    },
    "data": {"version": (str,), "units": (int,)},
    "planned": {
        **dict.fromkeys(("version", "run", "accountant"), (str,)),
        **dict.fromkeys(("epsilon", "delta", "asked"), (float,)),
        "events": (list,),
        "ceiling": (float, type(None)),
    },
    "charge": {
        **dict.fromkeys(("version", "run", "request", "what"), (str,)),
        "instance": (int,),
        "event": (dict,),
        "ceiling": (float, type(None)),
        "epsilon": (float,),
    },
    "repaired": {"bytes": (int,), "sha256": (str,)},
}
_Groups = Mapping[Person, int]


@dataclass(frozen=True)
class _Constants:
    """The first entry: what can never change in a ledger."""

    id: str
    site: str
    unit: str
    filter: SiteFilter
    key: str


@dataclass(frozen=True)
class Charge:
    """One release that was paid for. `epsilon`: of the worst unit of the version, after it."""

    seq: int
    hash: str
    time: str
    version: str
    run: str
    instance: int
    request: str
    what: str
    event: AnyEvent
    ceiling: float | None
    epsilon: float


class Account:
    """Constants, versions with their numbers of units, plans and charges, entry by entry.

    Raises
    ------
    DataError
        If an entry does not say what this version of the ledger writes.
    """

    def __init__(self, entries: Iterable[Entry], path: Path) -> None:
        self._path = path
        self._constants: _Constants | None = None
        self.versions: dict[str, int] = {}
        self.charges: list[Charge] = []
        self.runs = PlannedRuns()
        self._sums: dict[tuple[str, int], Rdp] = {}
        self._runs: dict[str, str] = {}
        for entry in entries:
            self.add(entry)

    @property
    def constants(self) -> _Constants:
        """The first entry.

        Raises
        ------
        DataError
            If the ledger has none.
        """
        if self._constants is None:
            raise DataError(f"{self._path} is empty; expected a ledger that was begun by a run")
        return self._constants

    def add(self, entry: Entry) -> None:
        """Take up one more entry."""
        try:
            if (entry.kind == "opened") != (self._constants is None):
                raise ValueError("the first entry, and no other, opens a ledger")
            _TAKE[entry.kind](self, entry)
        except (KeyError, ValueError, TypeError) as error:  # ConfigError is a ValueError
            raise DataError(
                f"{self._path}, line {entry.seq} is not what this version writes ("
                f"{reason_of(error)}); "
                "nothing is released; use the version of primia that wrote it"
            ) from None

    def version_of(self, run: str) -> str | None:
        """Return the version of the data that a run was planned or charged on so far."""
        return self._runs.get(run)

    def epsilon(
        self,
        version: str,
        groups: _Groups,
        extra: Sequence[AnyEvent] = (),
        *,
        run: str = "",
        more: Sequence[PlannedRun] = (),
    ) -> float:
        """Return the epsilon of who has spent most in a version, once these events are added.

        Parameters
        ----------
        extra : sequence of events
            Of a run, whose plans they may be part of.
        more : sequence of PlannedRun
            Plans that would be written down before.
        """
        price = self.runs.price(version, run, extra, more=more)
        found = [
            self.spent_by(group) + self._cost(extra, units, price)
            for group in groups
            for name, units in group
            if name == version
        ]
        return max(map(self.constants.filter.epsilon, found), default=0.0)

    def spent_by(self, person: Person) -> Spent:
        """Return what somebody has spent who is in these versions."""
        return sum(
            (self._spent(version, units) for version, units in person),
            start=self.constants.filter.nothing(),
        )

    def most_used(self, groups: _Groups) -> Spent:
        """Return the spending of the group of units that has spent most; zeros where none is."""
        return max(
            (self.spent_by(group) for group in groups),
            key=self.constants.filter.epsilon,
            default=self.constants.filter.nothing(),
        )

    def epsilon_of_charges(self, version: str) -> float:
        """Return the epsilon of the charges on one version alone."""
        return self.constants.filter.epsilon(self.spent_by(frozenset([(version, 1)])))

    def _spent(self, version: str, units: int) -> Spent:
        """Return what the charges on a version cost somebody who is so many of its units."""
        sums = self._sum_of(version, units)
        epsilon, delta = _for_units(self.runs.spent(version), units, any(sums))
        return self.constants.filter.spent(sums, epsilon=epsilon, delta=delta)

    def _cost(self, events: Sequence[AnyEvent], units: int, price: Price) -> Spent:
        sums = total_rdp(events, self.constants.filter.orders, units=units)
        epsilon, delta = _for_units(price, units, bool(events))
        return self.constants.filter.spent(sums, epsilon=epsilon, delta=delta)

    def _sum_of(self, version: str, units: int) -> Rdp:
        """Return the divergences of all charges on a version for somebody who is so many units."""
        if (version, units) not in self._sums:
            events = [charge.event for charge in self.charges if charge.version == version]
            orders = self.constants.filter.orders
            self._sums[version, units] = total_rdp(events, orders, units=units)
        return self._sums[version, units]

    def _open(self, entry: Entry) -> None:
        old = entry.body.get("format") == _BEFORE_PLANS
        body = _checked(entry, without=("runs",) if old else ())
        if body["format"] not in (FORMAT, _BEFORE_PLANS) or body["unit"] not in _UNITS:
            raise ValueError(f"format {body['format']}, unit {body['unit']}")
        rdp = RdpFilter(body["delta"], tuple(body["orders"]), tuple(body["shares"]))
        found = SiteFilter(rdp, 0.0 if old else body["runs"])
        self._constants = _Constants(body["id"], body["site"], body["unit"], found, body["key"])

    def _data(self, entry: Entry) -> None:
        body = _checked(entry)
        self.versions[body["version"]] = body["units"]

    def _planned(self, entry: Entry) -> None:
        body = _checked(entry)
        self._known(body["version"])
        plan = plan_from_json(body)
        if not self.constants.filter.runs or plan.delta > self.constants.filter.delta:
            raise ValueError(f"a plan with delta {plan.delta:g} in a ledger that has no such share")
        self.runs.add(PlannedRun(entry.seq, body["run"], body["version"], plan))
        self._runs.setdefault(body["run"], body["version"])

    def _charge(self, entry: Entry) -> None:
        body = _checked(entry)
        charge = Charge(
            entry.seq, entry.hash, entry.time, **body | {"event": event_from_json(body["event"])}
        )
        self._known(charge.version)
        for version, units in self._sums:
            if version == charge.version:
                more = charge.event.rdp(self.constants.filter.orders, units=units)
                self._sums[version, units] = self._sums[version, units] + more
        self.runs.charge(charge.version, charge.run, charge.event)
        self._runs.setdefault(charge.run, charge.version)
        self.charges.append(charge)

    def _known(self, version: str) -> None:
        if version not in self.versions:
            raise ValueError(f"an unknown version {version:.12}")

    def _repaired(self, entry: Entry) -> None:
        _checked(entry)


_TAKE = {
    "opened": Account._open,
    "data": Account._data,
    "planned": Account._planned,
    "charge": Account._charge,
    "repaired": Account._repaired,
}


def check_unit(unit: str) -> None:
    """Refuse a unit that is not in the table.

    Raises
    ------
    ConfigError
        Naming the choices.
    """
    if unit not in _UNITS:
        raise ConfigError(f"privacy.unit={unit}; expected one of {', '.join(_UNITS)}")


def _for_units(price: Price, units: int, anything: bool) -> Price:
    """Return a price for somebody who is so many units: plans hold for one."""
    return BEYOND if units > 1 and anything else price


def _checked(entry: Entry, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the body of an entry whose keys and types are those of its kind, without some."""
    types = {key: kinds for key, kinds in _TYPES[entry.kind].items() if key not in without}
    if entry.body.keys() != types.keys():
        raise ValueError(f"{entry.kind} with {', '.join(sorted(entry.body))}")
    for name, value in entry.body.items():
        if type(value) not in types[name]:
            raise ValueError(f"{entry.kind}.{name}={value!r}")
    return entry.body
