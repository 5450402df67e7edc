"""The epsilon of a plan that is fixed beforehand, and the noise that a wanted epsilon needs.

Where every event has a privacy loss distribution, Google's dp-accounting composes them
pessimistically: the true epsilon is never larger. Where one has none, or where the result would be
so large that it protects nobody, Rényi divergences are added up instead; the answer says which.
What a site enforces while a run goes on is the filter (`filter.py`), not this.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.events import (
    LEAST_NOISE,
    AnyEvent,
    Rdp,
    SampledGaussian,
    total_rdp,
)
from primia_flwr.privacy.accounting.filter import RdpFilter, check_delta, rdp_epsilon

if TYPE_CHECKING:
    from dp_accounting import DpEvent

PLD, RDP = "pld", "rdp"
_PATIENTS = ("disjoint", "shared")
# Orders of plain Rényi accounting: dense, because a fixed plan may take the best of them for free.
_ORDERS = (1.25, 1.5, 1.75, *map(float, range(2, 64)), *(2.0**k for k in range(6, 12)))
PLD_UP_TO = 50.0  # above, distributions take gigabytes to say that nothing is protected
_MOST_NOISE = 1e5
# Intervals of the losses: both give bounds. The coarse one is at least fivefold as fast; measured,
# it is 0.002 % larger at up to 600 steps, and 0.05 to 0.16 % at 2,000 to 10,000.
FINE, COARSE = 1e-4, 1e-3
_CROSSINGS = 12  # tries to meet the ceiling, before the interval is halved


@dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta), which accountant found it, and what it assumes about patients, if asked."""

    epsilon: float
    delta: float
    accountant: str
    assumed: str = ""


def epsilon(
    events: Sequence[AnyEvent], *, delta: float, units: int | None = None, interval: float = FINE
) -> Guarantee:
    """Return the epsilon of events whose parameters do not depend on what any of them released.

    Parameters
    ----------
    events : sequence of events
        All on the same data.
    delta : float
        In (0, 1), below 1/`units` where that is given.
    interval : float
        At which privacy losses are rounded up: `FINE`, or `COARSE` where many are tried.

    Raises
    ------
    ConfigError
        If delta is out of range.
    """
    check_delta(delta, units)
    if not events:
        return Guarantee(0.0, delta, PLD)
    by_rdp = rdp_epsilon(total_rdp(events, _ORDERS), _ORDERS, delta)
    named = [event.dp_event() for event in events]
    if by_rdp > PLD_UP_TO or None in named:
        return Guarantee(by_rdp, delta, RDP)
    counts: Counter[DpEvent] = Counter()
    for event, often in (pair for pair in named if pair is not None):
        counts[event] += often
    by_pld = _pld_epsilon(counts, delta, interval)
    if by_pld > by_rdp:  # both are bounds; far below 1e-12 of delta, distributions are cut off
        return Guarantee(by_rdp, delta, RDP)
    return Guarantee(by_pld, delta, PLD)


def noise_multiplier_for(
    *,
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    with_it: Sequence[AnyEvent] = (),
    by: RdpFilter | None = None,
    before: Rdp | None = None,
    relative: float = 1e-3,
) -> float:
    """Return the least noise multiplier with which DP-SGD stays within (epsilon, delta).

    Parameters
    ----------
    with_it : sequence of events
        What else must fit, e.g. noisy statistics.
    by : RdpFilter, optional
        Count as these criteria do; None: as `epsilon` does, for a plan fixed beforehand.
    before : ndarray, optional
        What was spent before, at the orders of `by`; only with a filter.
    relative : float
        How far above the least it may be.

    Raises
    ------
    ConfigError
        If a parameter is out of range, or no noise multiplier is large enough.
    """
    check_delta(delta)
    check_range("privacy.epsilon", epsilon, 0, PLD_UP_TO, example=3, open_low=True)

    def events(noise: float) -> list[AnyEvent]:
        step = SampledGaussian(noise_multiplier=noise, sampling_rate=sampling_rate, steps=steps)
        return [step, *with_it]

    def by_rdp(noise: float) -> float:
        if by is None:
            return rdp_epsilon(total_rdp(events(noise), _ORDERS), _ORDERS, delta)
        return by.epsilon(total_rdp(events(noise), by.orders) + (0 if before is None else before))

    found = least_noise(by_rdp, epsilon, relative)
    if by is not None:
        return found
    return least_noise(
        lambda noise: _coarse(events(noise), delta), epsilon, relative, start=found, stride=1.15
    )


def across_sites(sites: Sequence[Guarantee], *, patients: str) -> Guarantee:
    """Return what holds for a patient of several sites.

    `patients`: `disjoint`: nobody is a patient of two sites, so the worst site counts. `shared`:
    somebody may be a patient of all, so epsilons and deltas add up.

    Raises
    ------
    ConfigError
        If there is no site, or `patients` is another word.
    """
    check_choice("privacy.patients", patients, _PATIENTS)
    if not sites:
        raise ConfigError("no site's guarantee was given; expected at least one")
    merge: Callable[[Sequence[float]], float] = max if patients == "disjoint" else math.fsum
    whole = merge([site.epsilon for site in sites]), merge([site.delta for site in sites])
    how = "+".join(sorted({site.accountant for site in sites}))
    return Guarantee(*whole, how, patients)


def _coarse(events: Sequence[AnyEvent], delta: float) -> float:
    return epsilon(events, delta=delta, interval=COARSE).epsilon


def _pld_epsilon(counts: Counter[DpEvent], delta: float, interval: float) -> float:
    import dp_accounting as dp
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    for event, often in counts.items():
        accountant.compose(event, often)
    return float(accountant.get_epsilon(delta))


def least_noise(
    spent: Callable[[float], float],
    ceiling: float,
    relative: float = 1e-3,
    *,
    start: float = 1.0,
    stride: float = 2.0,
) -> float:
    """Return the smallest noise multiplier, within a relative distance, that costs no more.

    It strides from `start` until it has one that fits and one that does not, then closes in.

    Parameters
    ----------
    spent : callable
        The epsilon that a noise multiplier costs; falls as the noise grows.
    ceiling : float
        The most that it may be.

    Raises
    ------
    ConfigError
        If no noise multiplier is large enough.
    """
    low, below, high, above = _bracket(spent, ceiling, start, stride)
    if below <= ceiling:
        return low
    for tried in count():
        if high / low <= 1 + relative:
            break
        middle = _between(low, below, high, above, ceiling, relative, tried)
        cost = spent(middle)
        if cost <= ceiling:
            high, above = middle, cost
        else:
            low, below = middle, cost
    return high


def _bracket(
    spent: Callable[[float], float], ceiling: float, start: float, stride: float
) -> tuple[float, float, float, float]:
    """Return a noise multiplier that does not fit, if any, and one that does, with their costs."""
    high, above = start, spent(start)
    low, below = high, above
    while above > ceiling:
        low, below, high = high, above, high * stride
        if high > _MOST_NOISE:
            raise ConfigError(
                f"privacy.epsilon={ceiling:g}; expected one that a noise multiplier of "
                f"{_MOST_NOISE:g} reaches; ask for a larger epsilon or delta, or fewer steps; "
                "or nothing is left of the budget"
            )
        above = spent(high)
    while below <= ceiling and low > LEAST_NOISE:
        high, above, low = low, below, max(low / stride, LEAST_NOISE)
        below = spent(low)
    return low, below, high, above


def _between(
    low: float, below: float, high: float, above: float, ceiling: float, relative: float, tried: int
) -> float:
    """Return the next noise to try: where a power law crosses the ceiling, or the middle.

    The crossing is missed by a little on purpose, now above and now below, so that the next try
    closes in from the other side.
    """
    width = math.log(high / low)
    if tried > _CROSSINGS or not 0 < above < below < math.inf:
        return math.sqrt(low * high)
    crossing = width * math.log(below / ceiling) / math.log(below / above)
    aside = relative * (0.4 if tried % 2 == 0 else -0.4)
    return low * math.exp(min(max(crossing + aside, 0.05 * width), 0.95 * width))
