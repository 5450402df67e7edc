"""What a run will release at a site, fixed before its first release, and what all of it costs.

A run wishes for an epsilon, or for noise. The site solves for the least noise once, by privacy loss
distributions or by the Rényi criteria of its ledger, whichever needs less, and writes the plan
down. From then on the plan is what the run was promised: its events may be charged in any order
and in parts, and as a whole they are (epsilon, delta)-private.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting import accountant
from primia_flwr.privacy.accounting.accountant import RDP, Guarantee, noise_multiplier_for
from primia_flwr.privacy.accounting.events import (
    AnyEvent,
    SampledGaussian,
    apart,
    event_from_json,
    event_to_json,
    total_rdp,
)
from primia_flwr.privacy.accounting.filter import SiteFilter, Spent

_Events = tuple[AnyEvent, ...]


@dataclass(frozen=True)
class RunPlan:
    """All that a run may release, and its cost: (epsilon, delta), by which accountant.

    `asked`: the epsilon that the noise was solved for; 0 where the noise was given.
    """

    events: _Events
    epsilon: float
    delta: float
    accountant: str
    asked: float

    def once(self) -> Counter[AnyEvent]:
        """Return how often each event happens, as it happens once."""
        return counted(self.events)


def _any_noise(_: float) -> None:
    """Refuse no noise multiplier."""


@dataclass(frozen=True)
class Wish:
    """What a run asks of a site: its events, and an epsilon for which their noise is solved.

    `events`: with `epsilon` above 0 the noise multiplier of one `SampledGaussian` among them is
    looked for, and the one that stands there means nothing. `check`: refuses a noise multiplier of
    the steps with which the run cannot be, before anything is written down.
    """

    events: _Events
    epsilon: float = 0.0
    check: Callable[[float], None] = field(default=_any_noise, compare=False)

    def met_by(self, plan: RunPlan) -> bool:
        """Say whether a plan is what `solve` may have returned for this wish."""
        return plan.asked == self.epsilon and plan.events == self._like(plan.events)

    def solve(self, counted_by: SiteFilter, *, ceiling: float | None) -> RunPlan:
        """Return the plan with the least noise, as the filter of a ledger counts.

        `counted_by`: one without a share for whole runs counts by its Rényi criteria; the plan's
        epsilon is infinite then. `ceiling`: the site's, which part of the share the run gets.

        Raises
        ------
        ConfigError
            If no noise is large enough for the wish, or its check refuses the one that is.
        """
        plan = self._solved(counted_by, ceiling)
        for event in plan.events:
            if isinstance(event, SampledGaussian):
                self.check(event.noise_multiplier)
        return plan

    def _solved(self, counted_by: SiteFilter, ceiling: float | None) -> RunPlan:
        if not self.epsilon:
            return _priced(self.events, counted_by, ceiling)
        (step,) = (event for event in self.events if isinstance(event, SampledGaussian))
        others = [event for event in self.events if event is not step]
        noise = _least_noise(step, others, self.epsilon, counted_by, ceiling)
        return replace(
            _priced(self._with(noise), counted_by, ceiling, self.epsilon), asked=self.epsilon
        )

    def _with(self, noise: float) -> _Events:
        return tuple(
            replace(event, noise_multiplier=noise) if isinstance(event, SampledGaussian) else event
            for event in self.events
        )

    def _like(self, events: _Events) -> _Events:
        """Return the wished events with the noise that was found in these."""
        found = [event.noise_multiplier for event in events if isinstance(event, SampledGaussian)]
        return self._with(found[0]) if self.epsilon and found else self.events


def counted(events: Sequence[AnyEvent]) -> Counter[AnyEvent]:
    """Return how often each event happens, as it happens once."""
    found: Counter[AnyEvent] = Counter()
    for event in events:
        once, often = apart(event)
        found[once] += often
    return found


def price(events: Sequence[AnyEvent], delta: float) -> Guarantee:
    """Return what events cost together at a delta, as a plan is priced."""
    return accountant.epsilon(events, delta=delta, interval=accountant.COARSE)


def spent_by(plans: Sequence[RunPlan], counted_by: SiteFilter) -> Spent:
    """Return what plans cost that are kept to, each to its end."""
    return sum(
        (
            counted_by.spent(
                total_rdp(plan.events, counted_by.orders), epsilon=plan.epsilon, delta=plan.delta
            )
            for plan in plans
        ),
        start=counted_by.nothing(),
    )


def plan_to_json(plan: RunPlan) -> dict[str, Any]:
    """Return a plan as plain values."""
    return {
        "events": [event_to_json(event) for event in plan.events],
        "epsilon": plan.epsilon,
        "delta": plan.delta,
        "accountant": plan.accountant,
        "asked": float(plan.asked),
    }


def plan_from_json(content: Mapping[str, Any]) -> RunPlan:
    """Read what `plan_to_json` wrote, among other keys.

    Raises
    ------
    ValueError
        If it has no event or a number is out of range; ConfigError is one.
    """
    events = tuple(event_from_json(event) for event in content["events"])
    plan = RunPlan(events, *(content[key] for key in ("epsilon", "delta", "accountant", "asked")))
    if not events or not plan.epsilon > 0 or not 0 < plan.delta < 1 or not plan.asked >= 0:
        raise ValueError(f"a plan of {len(events)} events, {plan.epsilon}, {plan.delta}")
    return plan


def _least_noise(
    step: SampledGaussian,
    others: Sequence[AnyEvent],
    epsilon: float,
    counted_by: SiteFilter,
    ceiling: float | None,
) -> float:
    """Return the smaller of the noises that whole runs and the Rényi criteria need."""
    found: list[float] = []
    errors: list[ConfigError] = []
    share = counted_by.delta_of_run(epsilon, ceiling)
    ways = [(counted_by.delta, counted_by.rdp), *([(share, None)] if share else [])]
    for delta, by in ways:
        try:
            noise = noise_multiplier_for(
                epsilon=epsilon,
                delta=delta,
                sampling_rate=step.sampling_rate,
                steps=step.steps,
                with_it=others,
                by=by,
            )
            found.append(noise)
        except ConfigError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return min(found)


def _priced(
    events: _Events, counted_by: SiteFilter, ceiling: float | None, epsilon: float | None = None
) -> RunPlan:
    """Return the plan of events: at the delta of a run of this epsilon, or of what they cost."""
    if not counted_by.runs:
        return RunPlan(events, math.inf, 0.0, RDP, 0.0)
    if epsilon is None:
        epsilon = price(events, counted_by.runs * counted_by.delta).epsilon
    cost = price(events, counted_by.delta_of_run(epsilon, ceiling))
    return RunPlan(events, cost.epsilon, cost.delta, cost.accountant, 0.0)
