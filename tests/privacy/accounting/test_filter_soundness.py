"""Runs and charges in any order that somebody may choose: never more than what the proof covers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from primia_flwr.errors import ConfigError, PrivacyBudgetError
from primia_flwr.privacy.accounting.accountant import COARSE, epsilon
from primia_flwr.privacy.accounting.events import (
    AnyEvent,
    Gaussian,
    SampledGaussian,
    apart,
    total_rdp,
)
from primia_flwr.privacy.accounting.filter import RdpFilter, SiteFilter
from primia_flwr.privacy.accounting.run_plan import RunPlan, Wish
from primia_flwr.privacy.ledger import people as ledger_units
from primia_flwr.privacy.ledger.ledger import Ledger
from tests.privacy.ledgers import DELTA, charge, open_ledger

STEPS = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.05, steps=40)
ONCE = Gaussian(noise_multiplier=6.0)
WISHES = {
    "half": Wish((STEPS,), 1.0),
    "third": Wish((ONCE, STEPS), 0.7),
    "given": Wish((replace(STEPS, noise_multiplier=2.5),)),
    "once": Wish((Gaussian(noise_multiplier=12.0),)),
}
# A move: a run, what it wishes for (once), how many steps it then charges, and whether with other
# noise than was planned.
moves = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(sorted(WISHES)),
    st.sampled_from([8, 40]),
    st.booleans(),
)
COMMON = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(max_examples=40, **COMMON)
@example([((run, "half", 40, False), ("p",)) for run in "aaaa"], 1.0)  # beyond its steps
@example([(("a", "half", 40, foreign), ("p",)) for foreign in (False, *[True] * 6)], 1.0)
@example([((run, "half", 40, False), ("p",)) for run in "abab"], 1.0)  # two runs of one's ceiling
@given(
    st.lists(st.tuples(moves, st.sampled_from([("p",), ("p", "q")])), max_size=20),
    st.sampled_from([1.0, 2.0]),
)
def test_no_sequence_gets_past_the_proof(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: list[tuple[tuple[str, str, int, bool], tuple[str, ...]]],
    ceiling: float,
) -> None:
    """Every state that was let through fulfils a criterion, added up anew from the ledger's text.

    And what was let through is within the ceiling by privacy loss distributions, which are exact
    where nobody adapts: the charges always; the plans as wholes where no other criterion was used.
    """
    with open_ledger(tmp_path_factory.mktemp("ledger"), ceiling=ceiling) as ledger:
        for (run, name, steps, foreign), who in wanted:
            version = ledger.register(who)
            with_run = f"{run}-{'-'.join(who)}"
            try:
                found = ledger.plan(version, run=with_run, wish=WISHES[name])
                for event in _asked(found.events, steps, foreign):
                    charge(ledger, version, run=with_run, event=event)
            except (PrivacyBudgetError, ConfigError):
                continue
        for patient in "pq":
            _judge(ledger, patient, ceiling)


def _asked(events: tuple[AnyEvent, ...], steps: int, foreign: bool) -> list[AnyEvent]:
    """Return part of a plan, or the same with other noise."""
    first = [e for e in events if isinstance(e, Gaussian)]
    rest = [replace(e, steps=steps) for e in events if isinstance(e, SampledGaussian)]
    found: list[AnyEvent] = [*first, *rest]
    return [replace(e, noise_multiplier=3.0) for e in found] if foreign else found  # type: ignore[call-arg]


def _judge(ledger: Ledger, patient: str, ceiling: float) -> None:
    """Add up what a patient's versions were charged, without the code that the ledger uses."""
    account, folder = ledger.account, ledger._file.folder
    (row,) = ledger_units.rows(ledger._key, [patient])
    mine = {v for v in account.versions if row in ledger_units.read_version(folder, v)}
    charges = [c for c in account.charges if c.version in mine]
    plans = [p for p in account.runs.plans if p.version in mine]
    left = [(p, Counter(p.plan.once())) for p in plans]
    began: dict[int, RunPlan] = {}
    beyond = False
    chosen = account.constants.filter
    sums = np.zeros(len(chosen.orders))
    for one in charges:
        once, often = apart(one.event)
        fitting = [
            (p, of)
            for p, of in left
            if (p.run, p.version) == (one.run, one.version) and of[once] >= often
        ]
        fitting.sort(key=lambda found: found[0].seq not in began)
        if fitting:
            planned, of = fitting[0]
            of[once] -= often
            began[planned.seq] = planned.plan
        beyond = beyond or not fitting
        sums = sums + one.event.rdp(chosen.orders)
        total = math.fsum(p.epsilon for p in began.values())
        deltas = math.fsum(p.delta for p in began.values())
        by_runs = not beyond and total <= ceiling + 1e-12 and deltas <= chosen.runs * chosen.delta
        by_rdp = bool(np.any(sums + chosen.rdp.overhead() <= ceiling + 1e-12))
        assert by_runs or by_rdp, "let through by nothing"
    events = [c.event for c in charges]
    assert epsilon(events, delta=DELTA, interval=COARSE).epsilon <= ceiling
    if not beyond and math.fsum(p.epsilon for p in began.values()) <= ceiling:
        whole = [e for p in began.values() for e in p.events]
        assert epsilon(whole, delta=DELTA, interval=COARSE).epsilon <= ceiling


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.05, 1.0), st.floats(1.0, 6.0)), min_size=1, max_size=8),
    st.sampled_from([1.0, 3.0]),
)
def test_the_deltas_of_runs_that_fit_the_ceiling_fit(
    runs: list[tuple[float, float]], ceiling: float
) -> None:
    """Parts of a ceiling that add up to no more than it have deltas that do, too."""
    site = SiteFilter.planned(epsilon=ceiling, delta=DELTA)
    total, spent = 0.0, site.nothing()
    for part, _ in runs:
        if total + part * ceiling > ceiling:
            break
        total += part * ceiling
        one = site.spent(
            np.zeros(len(site.orders)),
            epsilon=part * ceiling,
            delta=site.delta_of_run(part * ceiling, ceiling),
        )
        spent = spent + one
        assert site.epsilon_of_runs(spent) <= ceiling


def test_the_sum_of_all_criteria_against_somebody_who_adapts() -> None:
    """The bound itself, by simulation: E[(1 - e^(epsilon - L))+] <= delta, whoever stops when.

    Gaussians of one size; a plan of 4 of them. The opponent sees the loss L after each release and
    stops once it is above epsilon; within the plan it goes on otherwise, and beyond it as long as
    some Rényi criterion lets it. Delta is large, so that 400,000 runs show it. Somebody who ignores
    the filter gets more than delta, so the test can see it.
    """
    delta, ceiling, noise, runs = 0.05, 1.0, 3.0, 400_000
    site = _small(delta, ceiling)
    event = Gaussian(noise_multiplier=noise)
    plan = Wish((event,) * 4).solve(site, ceiling=ceiling)
    assert plan.epsilon <= ceiling
    more = 0
    while site.rdp.epsilon(total_rdp([event] * (more + 1), site.orders)) <= ceiling:
        more += 1
    assert 1 <= more < 4, "criterion 0 lets more through than the others, which differ"
    excess = _excess(np.random.default_rng(7), noise, ceiling, most=4, runs=runs)
    assert excess <= delta
    assert _excess(np.random.default_rng(7), noise, ceiling, most=40, runs=runs) > delta


def _small(delta: float, ceiling: float) -> SiteFilter:
    rdp = RdpFilter.planned(epsilon=ceiling, delta=delta, share=0.25)
    return SiteFilter(rdp, 0.75)


def _excess(
    rng: np.random.Generator, noise: float, ceiling: float, *, most: int, runs: int
) -> float:
    """Return the mean of (1 - e^(epsilon - L))+ of one who stops once L is above epsilon."""
    loss: NDArray[np.float64] = np.zeros(runs)
    going = np.ones(runs, bool)
    for _ in range(most):
        # of N(1, s^2) against N(0, s^2), seen under the first: L = (2 x - 1) / (2 s^2)
        x = 1 + noise * rng.standard_normal(runs)
        loss = np.where(going, loss + (2 * x - 1) / (2 * noise**2), loss)
        going &= loss <= ceiling
    return float(np.mean(np.maximum(0, 1 - np.exp(ceiling - loss))))
