"""Epsilon against dp-accounting called directly, and what a site's filter costs above a fixed plan.

First four typical runs (`runs`), each of which may use up the ceiling. Noise multipliers:

- `planned`: what a site takes, a plan by privacy loss distributions at three quarters of delta;
- `rdp_before`: by the Rényi criteria with all of delta, three orders around the best, as before
  there were plans;
- `rdp_now`: by the Rényi criteria with the quarter that they have beside plans;
- `pure_pld`: the unattainable: all of delta for a plan that nobody may ever depart from.

And the filter's spend after the whole run, and after a stop at half and at an eighth. Then many
small runs: how much noise k equal runs need that use up the ceiling together, beside the criteria
before (`small_runs`).

Then a grid of DP-SGD plans: noise multiplier, sampling rate, rounds of 20 steps. Each round is an
event of its own, as a site charges it. Per plan:

- `epsilon`: ours, by privacy loss distributions; `direct`: dp-accounting's `PLDAccountant`,
  composed round by round; `difference`: relative, at most `--bound`;
- `rdp`: plain Renyi accounting, the best of many orders, for a plan fixed beforehand;
- `filter`: what the Rényi criteria of a ledger count that was begun with this ceiling, where no run
  was planned. `filter_over_rdp` and `filter_over_pld` are the price of parameters that may be
  chosen release by release. `filter_other_ceiling`: the same by a ledger begun for `--other`.

Plans whose plain epsilon is above `--most` are left out.

    python -m primia_bench.privacy.accounting --output benchmarks/results/privacy_accounting.json
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import dp_accounting as dp
import numpy as np
from dp_accounting.pld import PLDAccountant

from primia_bench.machine import describe_machine, publish
from primia_flwr.privacy.accounting.accountant import epsilon, noise_multiplier_for
from primia_flwr.privacy.accounting.events import SampledGaussian, total_rdp
from primia_flwr.privacy.accounting.filter import RdpFilter, SiteFilter, rdp_epsilon
from primia_flwr.privacy.accounting.run_plan import RunPlan, Wish

PATIENTS, RUN_DELTA = 1500, 1e-4
RUNS = ((1.0, 64, 60), (3.0, 128, 60), (6.0, 256, 200), (10.0, 600, 600))  # epsilon, batch, steps
STOPS = {"all": 1.0, "half": 0.5, "an_eighth": 0.125}
TOGETHER = (2, 5, 20)
STEPS = 20
WIDE = tuple(map(float, (1.5, 2, 3, 4, 5, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128)))
ORDERS = (1.5, *map(float, range(2, 256)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.8, 1.2, 2.0, 4.0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--most", type=float, default=20.0)
    parser.add_argument("--other", type=float, default=8.0)
    parser.add_argument("--bound", type=float, default=0.01)
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    runs = [typical_run(*run) for run in RUNS]
    small = [small_runs(*run, together=k) for run in RUNS for k in TOGETHER]
    plans = list(measure(args))
    worst = max(abs(plan["difference"]) for plan in plans)
    publish(
        {
            "benchmark": "privacy_accounting",
            "settings": {k: v for k, v in vars(args).items() if k != "output"},
            "runs": runs,
            "small_runs": small,
            "steps_a_round": STEPS,
            "plans": plans,
            "summary": {"largest_difference": worst, **summary(plans)},
            "ok": worst <= args.bound,
            "machine": describe_machine(),
        },
        args.output,
    )
    return 0 if worst <= args.bound else 1


def typical_run(wanted: float, batch: int, steps: int) -> dict[str, Any]:
    """Return the noise that a run of 1,500 patients needs, four ways, and what it spends."""
    run = SampledGaussian(noise_multiplier=1.0, sampling_rate=batch / PATIENTS, steps=steps)
    common: dict[str, Any] = {"epsilon": wanted, "sampling_rate": run.sampling_rate}
    common |= {"steps": steps, "delta": RUN_DELTA, "relative": 1e-4}
    site = SiteFilter.planned(epsilon=wanted, delta=RUN_DELTA)
    before = filter_before(wanted, RUN_DELTA)
    plan = Wish((run,), wanted).solve(site, ceiling=wanted)
    (found,) = plan.events
    noise = {
        "planned": float(getattr(found, "noise_multiplier", 0.0)),
        "rdp_before": noise_multiplier_for(**common, by=before),
        "rdp_now": noise_multiplier_for(**common, by=site.rdp),
        "pure_pld": noise_multiplier_for(**common),
    }
    spend = {f"after_{name}": _spend(site, plan, part) for name, part in STOPS.items()}
    return {
        "epsilon": wanted,
        "batch": batch,
        "steps": steps,
        "noise": noise,
        "planned_over_rdp_before": noise["planned"] / noise["rdp_before"],
        "planned_over_pure_pld": noise["planned"] / noise["pure_pld"],
        "spend": spend,
    }


def filter_before(wanted: float, delta: float) -> RdpFilter:
    """Return the criteria of a ledger that was begun before there were plans (format 1)."""
    orders = 1 + np.geomspace(0.05, 2000, 2000)
    log_c = (orders - 1) * np.log1p(-1 / orders) - np.log(orders)
    room = (wanted - (log_c - np.log(delta)) / (orders - 1)) / orders
    best = float(orders[np.argmax(room)])
    near = {float(max(2, round(1 + (best - 1) * factor))): 0.3 for factor in (0.5, 1.0, 2.0)}
    wide = [order for order in WIDE if order not in near]
    shares = near | dict.fromkeys(wide, (1 - sum(near.values())) / len(wide))
    return RdpFilter(delta, tuple(shares), tuple(shares.values()))


def _spend(site: SiteFilter, plan: RunPlan, part: float) -> float:
    """Return what the filter counts after a part of a run's steps."""
    (whole,) = (e for e in plan.events if isinstance(e, SampledGaussian))
    done = replace(whole, steps=max(1, round(whole.steps * part)))
    spent = site.spent(done.rdp(site.orders), epsilon=plan.epsilon, delta=plan.delta)
    return site.epsilon(spent)


def small_runs(wanted: float, batch: int, steps: int, *, together: int) -> dict[str, Any]:
    """Return the noise of equal runs that use up a ceiling together, over that without criterion 0.

    Each asks for its part of the ceiling, or has the noise that the Rényi criteria let through.
    """
    rate, part = batch / PATIENTS, wanted / together
    site = SiteFilter.planned(epsilon=wanted, delta=RUN_DELTA)
    before = filter_before(wanted, RUN_DELTA)
    all_steps: dict[str, Any] = {"sampling_rate": rate, "delta": RUN_DELTA}
    all_steps |= {"epsilon": wanted, "steps": together * steps}
    by_plan = noise_multiplier_for(
        epsilon=part, delta=site.delta_of_run(part, wanted), sampling_rate=rate, steps=steps
    )
    now = noise_multiplier_for(**all_steps, by=site.rdp)
    was = noise_multiplier_for(**all_steps, by=before)
    return {
        "epsilon": wanted,
        "together": together,
        "planned": by_plan,
        "rdp_now": now,
        "rdp_before": was,
        "least_over_rdp_before": min(by_plan, now) / was,
    }


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of every plan of the grid."""
    for noise, rate, rounds in product(args.noise, args.rates, args.rounds):
        event = SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=STEPS)
        charges = [event] * rounds
        plain = rdp_epsilon(total_rdp(charges, ORDERS), ORDERS, args.delta)
        if plain > args.most:
            continue
        started = time.perf_counter()
        ours = epsilon(charges, delta=args.delta)
        seconds = time.perf_counter() - started
        direct = by_dp_accounting(noise, rate, rounds, args.delta)
        filtered, other = (filter_epsilon(charges, at, args.delta) for at in (plain, args.other))
        yield {
            "noise_multiplier": noise,
            "sampling_rate": rate,
            "rounds": rounds,
            "epsilon": ours.epsilon,
            "accountant": ours.accountant,
            "direct": direct,
            "difference": ours.epsilon / direct - 1,
            "seconds": round(seconds, 3),
            "rdp": plain,
            "filter": filtered,
            "filter_over_rdp": filtered / plain,
            "filter_over_pld": filtered / ours.epsilon,
            "filter_other_ceiling": other,
        }


def by_dp_accounting(noise: float, rate: float, rounds: int, delta: float) -> float:
    """Return the epsilon of dp-accounting itself."""
    accountant = PLDAccountant()
    step = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))
    for _ in range(rounds):
        accountant.compose(dp.SelfComposedDpEvent(step, STEPS))
    return float(accountant.get_epsilon(delta))


def filter_epsilon(charges: list[SampledGaussian], ceiling: float, delta: float) -> float:
    """Return what a ledger that was begun with a ceiling counts."""
    chosen = SiteFilter.planned(epsilon=ceiling, delta=delta).rdp
    return chosen.epsilon(total_rdp(charges, chosen.orders))


def summary(plans: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians and extremes of the ratios, for all plans and for those of many steps."""
    many = [plan for plan in plans if plan["rounds"] >= 10]
    found: dict[str, Any] = {"plans": len(plans), "plans_of_10_rounds_or_more": len(many)}
    for key in ("filter_over_rdp", "filter_over_pld"):
        for name, group in (("all", plans), ("10_rounds_or_more", many)):
            values = [plan[key] for plan in group]
            found[f"{key}_{name}"] = {
                "median": statistics.median(values),
                "smallest": min(values),
                "largest": max(values),
            }
    return found


if __name__ == "__main__":
    sys.exit(main())
