"""The book of whole runs, with prices that one can add up in one's head."""

from __future__ import annotations

import math
from dataclasses import replace

from primia_flwr.privacy.accounting.events import AnyEvent, Gaussian, SampledGaussian
from primia_flwr.privacy.accounting.run_plan import RunPlan
from primia_flwr.privacy.ledger.planned_runs import PlannedRun, PlannedRuns

STEP = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=1)
ONCE = Gaussian(noise_multiplier=5.0)


def steps(number: int) -> SampledGaussian:
    return replace(STEP, steps=number)


def planned(*events: AnyEvent, run: str = "a", version: str = "v", cost: float = 1.0) -> PlannedRun:
    return PlannedRun(1, run, version, RunPlan(events, cost, cost / 1000, "pld", 0.0))


def book(*plans: PlannedRun) -> PlannedRuns:
    found = PlannedRuns()
    for plan in plans:
        found.add(plan)
    return found


def test_a_plan_is_free_until_its_first_charge_then_paid_whole() -> None:
    runs = book(planned(ONCE, steps(10)))
    assert runs.spent("v") == (0.0, 0.0)
    for event in (steps(4), ONCE, steps(6)):  # in any order and parts
        runs.charge("v", "a", event)
        assert runs.spent("v") == (1.0, 0.001)
    assert runs.plans[0].left.total() == 0


def test_what_is_beyond_a_plan_has_no_price() -> None:
    for beyond in (steps(7), ONCE, replace(STEP, noise_multiplier=2.0), replace(STEP, steps=1000)):
        runs = book(planned(steps(10)))
        runs.charge("v", "a", steps(4))
        runs.charge("v", "a", beyond)
        assert math.isinf(runs.spent("v")[0])
    for version, run in (("v", "b"), ("w", "a")):
        runs = book(planned(steps(10)))
        runs.charge(version, run, steps(1))
        assert math.isinf(runs.spent(version)[0])


def test_no_charge_is_split_over_two_plans() -> None:
    runs = book(planned(steps(3)), planned(steps(3)))
    runs.charge("v", "a", steps(2))
    assert runs.price("v", "a", [steps(2)]) == (1.0, 0.001), "the second one begins"
    assert math.isinf(runs.price("v", "a", [steps(4)])[0])


def test_what_began_is_used_up_first() -> None:
    runs = book(planned(steps(2), cost=1.0), planned(steps(9), cost=4.0))
    runs.charge("v", "a", steps(5))
    assert runs.spent("v")[0] == 4.0
    runs.charge("v", "a", steps(2))
    assert runs.spent("v")[0] == 4.0, "of the second one, although the first has room"


def test_runs_add_up_by_version() -> None:
    runs = book(planned(steps(2)), planned(steps(2), run="b"), planned(ONCE, run="c", version="w"))
    for run in "abab":
        runs.charge("v", run, STEP)
    runs.charge("w", "c", ONCE)
    assert (runs.spent("v"), runs.spent("w")) == ((2.0, 0.002), (1.0, 0.001))


def test_a_price_is_asked_for_without_a_trace() -> None:
    runs = book(planned(steps(4)))
    more = planned(ONCE, cost=2.0)
    for _ in range(2):
        assert runs.price("v", "a", [steps(4), ONCE], more=[more]) == (3.0, 0.003)
        assert math.isinf(runs.price("v", "a", [steps(4), STEP])[0])
    assert not more.began
    assert not runs.plans[0].began
    assert runs.spent("v") == (0.0, 0.0)
    assert runs.price("v", "a", []) == (0.0, 0.0)
