"""A ledger in figures, for people: what was spent, by version of the data and in all."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from primia_flwr.privacy.ledger.planned_runs import PlannedRun
from primia_flwr.privacy.ledger.view import LedgerView


@dataclass(frozen=True)
class _VersionLine:
    """One version of the data.

    `alone`: epsilon of the charges on it. `worst`: epsilon of its most used unit, with the charges
    on other versions that contain it. `left`: what the ceiling leaves above that, None without one.
    """

    version: str
    units: int
    charges: int
    alone: float
    worst: float
    left: float | None


@dataclass(frozen=True)
class PlanLine:
    """One planned run: (epsilon, delta) of all of it, and how many of its releases were charged."""

    seq: int
    run: str
    version: str
    events: tuple[str, ...]
    epsilon: float
    delta: float
    accountant: str
    charged: int
    planned: int


@dataclass(frozen=True)
class Statement:
    """The whole ledger. `epsilon`: of the most used unit of all, by the filter.

    That is the smaller of `by_runs`, the plans that began as wholes, None where something was
    released beyond them, and `by_rdp`, the divergences of what was charged.
    """

    site: str
    unit: str
    delta: float
    ceiling: float | None
    epsilon: float
    by_runs: float | None
    by_rdp: float
    left: float | None
    charges: int
    seq: int
    head: str
    unfinished: int
    versions: tuple[_VersionLine, ...]
    plans: tuple[PlanLine, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        plans = [asdict(line) for line in self.plans]
        return {
            **asdict(self),
            "versions": [asdict(line) for line in self.versions],
            "plans": plans,
        }


def statement(ledger: LedgerView, *, ceiling: float | None = None) -> Statement:
    """Add a ledger up.

    Parameters
    ----------
    ceiling : float, optional
        To compare with; None: the one that was in force at the newest charge, if there was one.

    Raises
    ------
    DataError
        If the units of a version were changed.
    """
    charges, constants = ledger.charges(), ledger.account.constants
    if ceiling is None and charges:
        ceiling = charges[-1].ceiling
    lines = tuple(_line(ledger, version, ceiling) for version in ledger.account.versions)
    most = ledger.most_used()
    worst = constants.filter.epsilon(most)
    by_runs = constants.filter.epsilon_of_runs(most)
    head = ledger.head()
    return Statement(
        constants.site,
        constants.unit,
        constants.filter.delta,
        ceiling,
        worst,
        None if math.isinf(by_runs) else by_runs,
        constants.filter.epsilon_of_rdp(most),
        _left(ceiling, worst),
        len(charges),
        head.seq,
        head.hash,
        ledger.unfinished(),
        lines,
        tuple(map(_plan, ledger.account.runs.plans)),
    )


def _line(ledger: LedgerView, version: str, ceiling: float | None) -> _VersionLine:
    account = ledger.account
    worst = ledger.spent(version)
    return _VersionLine(
        version,
        account.versions[version],
        sum(charge.version == version for charge in account.charges),
        account.epsilon_of_charges(version),
        worst,
        _left(ceiling, worst),
    )


def _plan(planned: PlannedRun) -> PlanLine:
    plan, total = planned.plan, sum(planned.plan.once().values())
    return PlanLine(
        planned.seq,
        planned.run,
        planned.version,
        tuple(event.words() for event in plan.events),
        plan.epsilon,
        plan.delta,
        plan.accountant,
        total - sum(planned.left.values()),
        total,
    )


def _left(ceiling: float | None, spent: float) -> float | None:
    return None if ceiling is None else max(ceiling - spent, 0.0)
