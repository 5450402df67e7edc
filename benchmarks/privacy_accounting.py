"""Epsilon against dp-accounting called directly, and what the filter costs above a fixed plan.

A grid of DP-SGD plans: noise multiplier, sampling rate, rounds of 20 steps. Each round is an event
of its own, as a site charges it. Per plan:

- `epsilon`: ours, by privacy loss distributions; `direct`: dp-accounting's `PLDAccountant`,
  composed round by round; `difference`: relative, at most `--bound`;
- `rdp`: plain Renyi accounting, the best of many orders, for a plan fixed beforehand;
- `filter`: what a site counts against its ceiling, by the filter of a ledger that was begun with
  this ceiling. `filter_over_rdp` and `filter_over_pld` are the price of parameters that may be
  chosen as one goes. `filter_other_ceiling`: the same by a ledger begun for `--other`.

Plans whose plain epsilon is above `--most` are left out.

    python -m benchmarks.privacy_accounting --output benchmarks/results/privacy_accounting.json
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import dp_accounting as dp
from dp_accounting.pld import PLDAccountant

from benchmarks.machine import describe_machine, publish
from primia_flwr.privacy.accountant import epsilon
from primia_flwr.privacy.events import SampledGaussian, total_rdp
from primia_flwr.privacy.filter import RdpFilter, rdp_epsilon

STEPS = 20
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
    plans = list(measure(args))
    worst = max(abs(plan["difference"]) for plan in plans)
    publish(
        {
            "benchmark": "privacy_accounting",
            "settings": {k: v for k, v in vars(args).items() if k != "output"},
            "steps_a_round": STEPS,
            "plans": plans,
            "summary": {"largest_difference": worst, **summary(plans)},
            "ok": worst <= args.bound,
            "machine": describe_machine(),
        },
        args.output,
    )
    return 0 if worst <= args.bound else 1


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
    chosen = RdpFilter.planned(epsilon=ceiling, delta=delta)
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
