"""Criterion 0's book: the plans of a ledger, what is left of each, and what those cost that began.

A plan costs nothing until its first charge, then all of it at once: from there on the run may go
to its end, whatever other runs do, and stopping early gives nothing back here (the Rényi criteria
count what was really released). A charge that fits no plan has no price here: it is infinite.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from primia_flwr.privacy.accounting.events import AnyEvent, apart
from primia_flwr.privacy.accounting.run_plan import RunPlan


@dataclass
class PlannedRun:
    """A plan on a version of the data, and what is left of it.

    `seq`: of its entry in the ledger; 0 for one that is not written down.
    """

    seq: int
    run: str
    version: str
    plan: RunPlan
    left: Counter[AnyEvent] = field(default_factory=Counter)
    began: bool = False

    def __post_init__(self) -> None:
        if not self.left:
            self.left = self.plan.once()

    def copy(self) -> PlannedRun:
        """Return one of its own to try charges on."""
        return PlannedRun(
            self.seq, self.run, self.version, self.plan, Counter(self.left), self.began
        )

    def covers(self, event: AnyEvent) -> bool:
        """Say whether so much of the plan is left."""
        once, often = apart(event)
        return self.left[once] >= often


Price = tuple[float, float]
"""Sums of the epsilons and deltas of whole runs."""
_FREE, BEYOND = (0.0, 0.0), (math.inf, 0.0)


class PlannedRuns:
    """The plans in the order in which they were written, and the price of each version so far.

    `beyond`: what was charged that no plan covers.
    """

    def __init__(self) -> None:
        self.plans: list[PlannedRun] = []
        self.beyond: list[AnyEvent] = []
        self._spent: defaultdict[str, Price] = defaultdict(lambda: _FREE)

    def add(self, planned: PlannedRun) -> None:
        """Take up a plan; free until it begins."""
        self.plans.append(planned)

    def of(self, version: str, run: str) -> list[PlannedRun]:
        """Return a run's plans on a version, the oldest first."""
        return [p for p in self.plans if (p.version, p.run) == (version, run)]

    def charge(self, version: str, run: str, event: AnyEvent) -> None:
        """Take an event off the run's plan."""
        price = _take(self.of(version, run), event)
        if price == BEYOND:
            self.beyond.append(event)
        self._spent[version] = _sum(self._spent[version], price)

    def price(
        self, version: str, run: str, events: Sequence[AnyEvent], *, more: Iterable[PlannedRun] = ()
    ) -> Price:
        """Return what charging these events would add; `more`: plans to be written before."""
        trial = [planned.copy() for planned in (*self.of(version, run), *more)]
        total = _FREE
        for event in events:
            total = _sum(total, _take(trial, event))
        return total

    def spent(self, version: str) -> Price:
        """Return what the charges on a version have cost."""
        return self._spent[version]


def _take(plans: Sequence[PlannedRun], event: AnyEvent) -> Price:
    """Take an event off a plan that has so much left, one that began first; return what it adds."""
    for planned in sorted(plans, key=lambda planned: not planned.began):
        if planned.covers(event):
            once, often = apart(event)
            planned.left[once] -= often
            first, planned.began = not planned.began, True
            return (planned.plan.epsilon, planned.plan.delta) if first else _FREE
    return BEYOND


def _sum(one: Price, other: Price) -> Price:
    return one[0] + other[0], one[1] + other[1]
