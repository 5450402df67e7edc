"""Plans: the noise that is solved for, what a plan costs, which wish it meets, how it is read."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.accountant import PLD, RDP, epsilon
from primia_flwr.privacy.accounting.events import (
    AnyEvent,
    Gaussian,
    Pure,
    SampledGaussian,
    SkellamSum,
)
from primia_flwr.privacy.accounting.filter import SiteFilter
from primia_flwr.privacy.accounting.run_plan import (
    RunPlan,
    Wish,
    counted,
    plan_from_json,
    plan_to_json,
    price,
    spent_by,
)

DELTA = 1e-4
SITE = SiteFilter.planned(epsilon=3.0, delta=DELTA)
STEPS = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.05, steps=60)


def delta_of_gaussian(epsilon: float, noise: float) -> float:
    """Balle and Wang 2018, Theorem 8, sensitivity 1."""

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    a, b = 1 / (2 * noise), epsilon * noise
    return phi(a - b) - math.exp(epsilon) * phi(-a - b)


def test_a_run_of_the_whole_ceiling_gets_the_whole_share() -> None:
    plan = Wish((STEPS,), 3.0).solve(SITE, ceiling=3.0)
    assert plan.delta == pytest.approx(0.75 * DELTA)
    assert plan.delta < 0.75 * DELTA, "rounding is taken off"
    assert 2.98 < plan.epsilon <= 3.0
    assert (plan.accountant, plan.asked) == (PLD, 3.0)
    (event,) = plan.events
    less = replace(event, noise_multiplier=event.noise_multiplier * 0.998)
    assert price([less], plan.delta).epsilon > 3.0


def test_a_third_of_the_ceiling_gets_a_third_of_the_share() -> None:
    plan = Wish((STEPS,), 1.0).solve(SITE, ceiling=3.0)
    assert plan.delta == pytest.approx(0.25 * DELTA)
    assert plan.epsilon <= 1.0
    whole = Wish((STEPS,), 1.0).solve(SITE, ceiling=1.0)
    assert whole.events[0].noise_multiplier < plan.events[0].noise_multiplier


def test_given_noise_is_priced_at_the_delta_of_its_own_epsilon() -> None:
    plan = Wish((Gaussian(noise_multiplier=4.0),)).solve(SITE, ceiling=3.0)
    assert plan.asked == 0.0
    assert delta_of_gaussian(plan.epsilon, 4.0) == pytest.approx(plan.delta, rel=0.01)
    assert delta_of_gaussian(plan.epsilon, 4.0) <= plan.delta
    # at most its part of the ceiling, so that no run starves another
    assert plan.delta / (0.75 * DELTA) <= plan.epsilon / 3.0


def test_statistics_are_part_of_the_plan() -> None:
    once = Gaussian(noise_multiplier=3.0)
    alone = Wish((STEPS,), 3.0).solve(SITE, ceiling=3.0)
    plan = Wish((once, STEPS), 3.0).solve(SITE, ceiling=3.0)
    assert plan.events[0] == once
    assert plan.events[1].noise_multiplier > alone.events[0].noise_multiplier
    assert price(plan.events, plan.delta).epsilon == plan.epsilon <= 3.0


def test_less_noise_than_the_renyi_criteria_alone() -> None:
    old = SiteFilter(replace(SITE.rdp), 0.0)
    by_rdp = Wish((STEPS,), 3.0).solve(old, ceiling=3.0)
    plan = Wish((STEPS,), 3.0).solve(SITE, ceiling=3.0)
    assert math.isinf(by_rdp.epsilon)
    assert plan.events[0].noise_multiplier < 0.9 * by_rdp.events[0].noise_multiplier
    assert old.epsilon_of_rdp(spent_by([by_rdp], old)) <= 3.0


def test_with_hardly_a_share_for_runs_the_renyi_criteria_need_less() -> None:
    site = SiteFilter.planned(epsilon=1.0, delta=DELTA, runs=1e-9)
    plan = Wish((STEPS,), 1.0).solve(site, ceiling=1.0)
    assert plan.epsilon > 1.0
    assert site.epsilon_of_rdp(spent_by([plan], site)) <= 1.0


def test_sums_without_a_loss_distribution_are_planned_by_renyi() -> None:
    sums = SkellamSum(l2_sensitivity=10, l1_sensitivity=50, variance=1e4, rounds=5)
    plan = Wish((sums,)).solve(SITE, ceiling=3.0)
    assert plan.accountant == RDP
    assert plan.epsilon == epsilon([sums], delta=plan.delta).epsilon


def test_no_noise_is_enough() -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        Wish((replace(STEPS, steps=10**8, sampling_rate=1.0),), 1e-6).solve(SITE, ceiling=3.0)


def test_a_noise_that_the_run_cannot_be_with_is_refused() -> None:
    seen: list[float] = []

    def below_one(noise: float) -> None:
        seen.append(noise)
        if noise >= 1.0:
            raise ConfigError("at least 1")

    plan = Wish((STEPS,), 3.0, below_one).solve(SITE, ceiling=3.0)
    assert seen == [plan.events[0].noise_multiplier]
    given = replace(STEPS, noise_multiplier=1.0)
    for refused in (Wish((STEPS,), 0.5, below_one), Wish((given,), 0.0, below_one)):
        with pytest.raises(ConfigError, match="at least 1"):
            refused.solve(SITE, ceiling=3.0)
    Wish((Gaussian(noise_multiplier=4.0),), 0.0, below_one).solve(SITE, ceiling=3.0)  # no steps


def test_which_wish_a_plan_meets() -> None:
    wish = Wish((Gaussian(noise_multiplier=3.0), STEPS), 3.0)
    plan = RunPlan(
        (Gaussian(noise_multiplier=3.0), replace(STEPS, noise_multiplier=1.7)), 3.0, 1e-5, PLD, 3.0
    )
    assert wish.met_by(plan)
    for other in (
        replace(wish, epsilon=1.0),
        replace(wish, epsilon=0.0),
        replace(wish, events=(wish.events[0], replace(STEPS, steps=61))),
        replace(wish, events=(wish.events[0], replace(STEPS, sampling_rate=0.06))),
        replace(wish, events=(Gaussian(noise_multiplier=2.0), STEPS)),
        replace(wish, events=(STEPS,)),
        Wish((Gaussian(noise_multiplier=3.0),)),
    ):
        assert not other.met_by(plan)
    given = Wish((STEPS,))
    assert given.met_by(RunPlan((STEPS,), 3.0, 1e-5, PLD, 0.0))
    assert not given.met_by(RunPlan((replace(STEPS, noise_multiplier=1.7),), 3.0, 1e-5, PLD, 0.0))


def test_events_are_counted_as_they_happen_once() -> None:
    events: list[AnyEvent] = [
        STEPS,
        replace(STEPS, steps=4),
        Gaussian(noise_multiplier=2.0),
        Gaussian(noise_multiplier=2.0),
        SkellamSum(l2_sensitivity=1, l1_sensitivity=1, variance=4, rounds=3),
        Pure(epsilon=0.1),
    ]
    assert counted(events) == {
        replace(STEPS, steps=1): 64,
        Gaussian(noise_multiplier=2.0): 2,
        SkellamSum(l2_sensitivity=1, l1_sensitivity=1, variance=4, rounds=1): 3,
        Pure(epsilon=0.1): 1,
    }


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = Wish((Gaussian(noise_multiplier=3), STEPS), 3.0).solve(SITE, ceiling=3.0)
    read = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
    assert read == plan
    assert read.once() == plan.once()


@pytest.mark.parametrize(
    "change",
    [
        {"events": []},
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"delta": 0.0},
        {"delta": 1.0},
        {"asked": -1.0},
        {"events": [{"kind": "laplace"}]},
    ],
)
def test_a_plan_that_says_nothing_possible_is_refused(change: dict[str, object]) -> None:
    content = plan_to_json(Wish((STEPS,)).solve(SITE, ceiling=3.0))
    with pytest.raises(ValueError, match=r"plan of|event="):
        plan_from_json({**content, **change})
