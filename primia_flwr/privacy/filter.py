"""The filter that enforces a ceiling although parameters are chosen as one goes.

A finite grid of orders a_1..a_k and shares w_1..w_k of delta (sum 1) are fixed beforehand. With
S_j the sum of the Rényi divergences at order a_j of all releases so far, the next one included, a
release is allowed if for some j

    S_j <= epsilon - (log(1 / (w_j delta)) + log c_j) / (a_j - 1),
    log c_j = (a_j - 1) log(1 - 1/a_j) - log a_j.

Then everything that was ever allowed is (epsilon, delta)-private together, whoever chose the
parameters from what they had seen: docs/differential-privacy.md, "The filter", has the proof. It
stands on Feldman and Zrnic 2021 (https://arxiv.org/abs/2008.11193), Lécuyer 2021
(https://arxiv.org/abs/2103.01379), and for c_j on Canonne, Kamath, Steinke 2020, Prop. 12
(https://arxiv.org/abs/2004.00010).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.events import Rdp

# Nine tenths of delta go to three orders around the best one for the ceiling that was planned, the
# rest to a wide grid, for ceilings and mechanisms that nobody planned.
_AROUND = (0.5, 1.0, 2.0)
_AROUND_SHARE = 0.3
_WIDE = tuple(map(float, (1.5, 2, 3, 4, 5, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128)))
_SHARES_MAY_MISS = 1e-9


@dataclass(frozen=True)
class RdpFilter:
    """Orders, their shares of delta, and delta: the constants of a ledger."""

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
    def planned(cls, *, epsilon: float, delta: float) -> Self:
        """Return a filter that loses little where the ceiling is near `epsilon`."""
        check_delta(delta)
        check_range("privacy.epsilon", epsilon, 0, 1000, example=3, open_low=True)
        best = _best_order(epsilon, delta)
        near = {_rounded(1 + (best - 1) * factor): _AROUND_SHARE for factor in _AROUND}
        wide = [order for order in _WIDE if order not in near]
        left = 1 - sum(near.values())
        chosen = near | dict.fromkeys(wide, left / len(wide))
        orders = tuple(sorted(chosen))
        return cls(delta, orders, tuple(chosen[order] for order in orders))

    def epsilon(self, sums: Rdp) -> float:
        """Return the smallest ceiling that lets `sums` through; 0 if nothing was released."""
        if not np.any(sums):
            return 0.0
        return max(0.0, float(np.min(sums + self.overhead())))

    def allows(self, sums: Rdp, *, ceiling: float) -> bool:
        """Say whether releases that add up to `sums` stay within a ceiling on epsilon."""
        return self.epsilon(sums) <= ceiling

    def overhead(self) -> Rdp:
        """Return what turning a sum into an epsilon adds, at each order."""
        return np.array(
            [
                _conversion(order, share * self.delta)
                for order, share in zip(self.orders, self.shares, strict=True)
            ]
        )


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
    bound: use `RdpFilter`.
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
