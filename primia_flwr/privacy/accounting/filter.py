"""The filter that enforces a ceiling although parameters are chosen as one goes.

Its constants are fixed beforehand: a grid of orders a_1..a_k with shares w_1..w_k of delta, and a
share w_0 for whole runs; the shares sum to 1. A release is allowed if one of these criteria lets it
through, for each unit of the data:

- 0, whole runs: all releases so far, the next one included, belong to runs that were planned
  before their first release. Run i as a whole is (epsilon_i, delta_i)-private, and over the runs

      sum epsilon_i <= epsilon,    sum delta_i <= w_0 delta;

- j = 1..k, Rényi divergences: with S_j the sum of the divergences at order a_j of all releases,

      S_j <= epsilon - (log(1 / (w_j delta)) + log c_j) / (a_j - 1),
      log c_j = (a_j - 1) log(1 - 1/a_j) - log a_j.

Then everything that was ever allowed is (epsilon, delta)-private together, whoever chose the
parameters from what they had seen: docs/differential-privacy.md, "The filter", has the proof. It
stands on Feldman and Zrnic 2021 (https://arxiv.org/abs/2008.11193), Lécuyer 2021
(https://arxiv.org/abs/2103.01379), for c_j on Canonne, Kamath, Steinke 2020, Prop. 12
(https://arxiv.org/abs/2004.00010), and for criterion 0 on Rogers et al. 2016
(https://arxiv.org/abs/1605.08294) and Vadhan and Zhang 2023 (https://arxiv.org/abs/2207.08335).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.events import Rdp

Spent = NDArray[np.float64]
"""What somebody has spent, in all currencies: (2 + k,), the sums of epsilon_i, delta_i, and S_j."""

# Of delta, so much goes to whole runs: one run that uses up the ceiling then needs 1 to 2 % more
# noise than with all of it, many small ones 1 to 3 % more than without criterion 0 (docs).
_RUNS = 0.75
# Of the rest, so much goes to one order, somewhat above the best one of a Gaussian that costs the
# ceiling, since sampled ones have theirs higher; what is left to a wide grid, for ceilings and
# mechanisms that nobody planned.
_ABOVE_BEST = 1.25
_BEST_SHARE = 0.8
_WIDE = tuple(map(float, (1.5, 2, 3, 4, 5, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128)))
_SHARES_MAY_MISS = 1e-9
ANY_CEILING = 8.0  # for which a ledger without a ceiling is made


@dataclass(frozen=True)
class RdpFilter:
    """The Rényi criteria: orders, their shares of delta, and delta."""

    delta: float
    orders: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        check_delta(self.delta)
        if len(self.orders) != len(self.shares) or not self.orders:
            raise ConfigError(
                f"{len(self.orders)} orders and {len(self.shares)} shares of delta; expected as "
                "many of one as of the other, at least 1"
            )
        for order in self.orders:
            check_range("privacy.orders", order, 1, 1e6, example=8, open_low=True)
        for share in self.shares:
            check_range("privacy.shares", share, 0, 1, example=0.1, open_low=True)
        if math.fsum(self.shares) > 1 + _SHARES_MAY_MISS:
            raise ConfigError(f"shares of delta sum to {math.fsum(self.shares)}; expected 1")

    @classmethod
    def planned(cls, *, epsilon: float, delta: float, share: float = 1.0) -> Self:
        """Return criteria that lose little where the ceiling is near `epsilon`.

        `share`: of delta, for all of them together, in (0, 1].
        """
        check_delta(delta)
        check_range("privacy.epsilon", epsilon, 0, 1000, example=3, open_low=True)
        near = _rounded(1 + (_best_order(epsilon, delta) - 1) * _ABOVE_BEST)
        wide = [order for order in _WIDE if order != near]
        left = share * (1 - _BEST_SHARE)
        chosen = {near: share * _BEST_SHARE} | dict.fromkeys(wide, left / len(wide))
        orders = tuple(sorted(chosen))
        return cls(delta, orders, tuple(chosen[order] for order in orders))

    def epsilon(self, sums: Rdp) -> float:
        """Return the smallest ceiling that lets `sums` through; 0 if nothing was released."""
        if not np.any(sums):
            return 0.0
        return max(0.0, float(np.min(sums + self.overhead())))

    def overhead(self) -> Rdp:
        """Return what turning a sum into an epsilon adds, at each order."""
        return np.array(
            [
                _conversion(order, share * self.delta)
                for order, share in zip(self.orders, self.shares, strict=True)
            ]
        )


@dataclass(frozen=True)
class SiteFilter:
    """All criteria, by which a ledger counts. `runs`: w_0; 0 in ledgers that know no plans."""

    rdp: RdpFilter
    runs: float

    def __post_init__(self) -> None:
        check_range("privacy.runs", self.runs, 0, 1, example=_RUNS, open_high=True)
        shares = math.fsum((*self.rdp.shares, self.runs))
        if shares > 1 + _SHARES_MAY_MISS:
            raise ConfigError(f"shares of delta sum to {shares} with whole runs; expected 1")

    @classmethod
    def planned(cls, *, epsilon: float, delta: float, runs: float = _RUNS) -> Self:
        """Return a filter for a ledger that begins with `epsilon` as its ceiling."""
        return cls(RdpFilter.planned(epsilon=epsilon, delta=delta, share=1 - runs), runs)

    @property
    def delta(self) -> float:
        """The delta of the guarantee."""
        return self.rdp.delta

    @property
    def orders(self) -> tuple[float, ...]:
        """The orders of the Rényi criteria."""
        return self.rdp.orders

    def nothing(self) -> Spent:
        """Return what somebody has spent of whom nothing was ever released."""
        return self.spent(np.zeros(len(self.orders)))

    def spent(self, sums: Rdp, *, epsilon: float = 0.0, delta: float = 0.0) -> Spent:
        """Return one vector of sums of divergences and of whole runs' epsilons and deltas.

        `epsilon` is infinite where something was released outside of any planned run.
        """
        return np.concatenate([[epsilon, delta], sums])

    def epsilon(self, spent: Spent) -> float:
        """Return the smallest ceiling that lets this through: the filter's spend."""
        return min(self.epsilon_of_runs(spent), self.epsilon_of_rdp(spent))

    def epsilon_of_runs(self, spent: Spent) -> float:
        """Return the same by criterion 0 alone; infinite where it lets through no more."""
        within = spent[1] <= self.runs * self.delta
        return float(spent[0]) if within and (self.runs or not spent.any()) else math.inf

    def epsilon_of_rdp(self, spent: Spent) -> float:
        """Return the same by the Rényi criteria alone."""
        return self.rdp.epsilon(spent[2:])

    def delta_of_run(self, epsilon: float, ceiling: float | None) -> float:
        """Return the delta of a run that takes so much of a ceiling: the same part of w_0 delta.

        Without a ceiling, parts of an epsilon of 8. Rounding is taken off beforehand, so that the
        deltas of runs whose epsilons fit the ceiling fit, too.
        """
        part = min(1.0, epsilon / (ceiling or ANY_CEILING))
        return self.runs * self.delta * part * (1 - _SHARES_MAY_MISS)


def check_delta(delta: float, units: int | None = None) -> None:
    """Refuse a delta outside (0, 1), or one that is no smaller than 1/units.

    Raises
    ------
    ConfigError
        With a delta that would do.
    """
    check_range("privacy.delta", delta, 0, 1, example=1e-6, open_low=True, open_high=True)
    if units is not None and delta * units >= 1:
        raise ConfigError(
            f"privacy.delta={delta:g} with {units} units; expected delta < 1/{units} = "
            f"{1 / units:.3g}, because a mechanism that shows one unit whole has 1/n; e.g. "
            f"{_power_below(0.1 / units):g}"
        )


def rdp_epsilon(sums: Rdp, orders: Sequence[float], delta: float) -> float:
    """Return the epsilon of a plan that was fixed beforehand, by the best of all orders.

    Source: Canonne, Kamath, Steinke 2020, Prop. 12. With parameters chosen as one goes this is no
    bound: use `SiteFilter`.
    """
    overhead = np.array([_conversion(order, delta) for order in orders])
    return max(0.0, float(np.min(sums + overhead)))


def _conversion(order: float, delta: float) -> float:
    log_c = (order - 1) * math.log1p(-1 / order) - math.log(order)
    return (log_c - math.log(delta)) / (order - 1)


def _best_order(epsilon: float, delta: float) -> float:
    """Return the order at which a Gaussian that costs epsilon in all may have the least noise."""
    orders = 1 + np.geomspace(0.05, 2000, 2000)
    overhead = np.array([_conversion(order, delta) for order in orders])
    return float(orders[np.argmax((epsilon - overhead) / orders)])


def _rounded(order: float) -> float:
    """Return a whole order near by: bounds between whole orders are a little loose."""
    return float(max(2, round(order)))


def _power_below(value: float) -> float:
    return float(10.0 ** math.floor(math.log10(value)))
