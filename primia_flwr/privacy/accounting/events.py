"""What a release does to privacy: a closed table of mechanisms with their parameters.

Neighbouring data sets differ in one unit (image or patient) that is zeroed out: the place is kept,
what it adds to a sum is zero. So the number of units is public and the same in both. Every bound
here holds in both directions. An event is a plain value: it goes into the ledger as JSON, and the
accountant and the filter read nothing else. Each has

- `rdp(orders)`: a bound on the Rényi divergence at each order above 1, in nats; with `units=k` for
  somebody who is k units at once (one patient under k names), who moves a sum k times as far;
- `dp_event()`: dp-accounting's name for it and how often it happens, or None;
- `words()`: itself in few words, for a table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Rdp = NDArray[np.float64]

LEAST_NOISE = 0.1  # below it one step alone costs an epsilon of more than 90
_MOST = 1e9
# The library sums up to a few hundred terms of order 1; what rounding may take away is given back.
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class SampledGaussian:
    """Steps of DP-SGD: each unit is drawn with probability `sampling_rate` (Poisson), in each step.

    `noise_multiplier`: standard deviation of the Gaussian noise on the sum, divided by the norm to
    which each unit's contribution is clipped. Source: Mironov, Talwar, Zhang 2019,
    https://arxiv.org/abs/1908.10530; computed by dp-accounting at whole orders.
    """

    kind: ClassVar[str] = "sampled_gaussian"
    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        _check_noise(self.noise_multiplier)
        check_range("privacy.sampling_rate", self.sampling_rate, 0, 1, example=0.01, open_low=True)
        _check_count("privacy.steps", self.steps)

    def rdp(self, orders: Sequence[float], *, units: int = 1) -> Rdp:
        """Return `steps` times the bound for one step.

        Of k units at most k are drawn, and none with probability (1 - rate)^k: that is dominated
        by one unit k times as large that is drawn with the rest (Ganesh 2024,
        https://arxiv.org/abs/2401.10294). Too little noise for it counts as no sampling at all.
        """
        noise = float(self.noise_multiplier) / units
        rate = float(self.sampling_rate)
        if units > 1 and rate < 1:
            rate = -math.expm1(units * math.log1p(-rate))
        if noise < LEAST_NOISE:
            return self.steps * (np.asarray(orders, np.float64) / (2 * noise**2))
        one = _between(orders, lambda order: _sampled_gaussian(noise, rate, order))
        return self.steps * (one + _ROUNDING)

    def dp_event(self) -> tuple[DpEvent, int]:
        """Return a Poisson-sampled Gaussian, `steps` times."""
        import dp_accounting as dp

        gaussian = dp.GaussianDpEvent(self.noise_multiplier)
        return dp.PoissonSampledDpEvent(self.sampling_rate, gaussian), self.steps

    def words(self) -> str:
        """Return steps, noise and rate."""
        noise, rate = self.noise_multiplier, self.sampling_rate
        return f"{self.steps} steps, noise {noise:.4g}, rate {rate:.4g}"


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """One sum over all units with Gaussian noise: statistics, noisy counts.

    `noise_multiplier`: standard deviation divided by the L2 sensitivity of all that is released
    together. Rényi divergence of order a: a / (2 noise_multiplier^2) (Mironov 2017, Prop. 7),
    which also bounds discrete Gaussian noise on integers (Canonne, Kamath, Steinke 2020, Prop. 5).
    """

    kind: ClassVar[str] = "gaussian"
    noise_multiplier: float

    def __post_init__(self) -> None:
        _check_noise(self.noise_multiplier)

    def rdp(self, orders: Sequence[float], *, units: int = 1) -> Rdp:
        """Return the exact divergence."""
        return np.asarray(orders, np.float64) * units**2 / (2 * self.noise_multiplier**2)

    def dp_event(self) -> tuple[DpEvent, int]:
        """Return a Gaussian, once."""
        import dp_accounting as dp

        return dp.GaussianDpEvent(self.noise_multiplier), 1

    def words(self) -> str:
        """Return the noise."""
        return f"Gaussian, noise {self.noise_multiplier:.4g}"


@dataclass(frozen=True, kw_only=True)
class SkellamSum:
    """A sum of integers with Skellam noise of `variance` in each coordinate, `rounds` times.

    `l2_sensitivity` and `l1_sensitivity`: of what one unit adds to the sum, on the integer grid.
    `variance`: of the noise that is in the sum for certain, i.e. without that of sites that
    dropped out or that may be curious. No amplification by sampling is claimed. Source: Agarwal,
    Kairouz, Liu 2021, https://arxiv.org/abs/2110.04995, which states it for whole orders.
    """

    kind: ClassVar[str] = "skellam_sum"
    l2_sensitivity: float
    l1_sensitivity: float
    variance: float
    rounds: int

    def __post_init__(self) -> None:
        for name, most in (("l2_sensitivity", 1e15), ("l1_sensitivity", 1e20), ("variance", 1e35)):
            value = getattr(self, name)
            check_range(f"privacy.{name}", value, 0, most, example=100, open_low=True)
        _check_count("privacy.rounds", self.rounds)
        if self.l1_sensitivity < self.l2_sensitivity:
            raise ConfigError(
                f"privacy.l1_sensitivity={self.l1_sensitivity}; expected at least the L2 "
                f"sensitivity, {self.l2_sensitivity}, because no vector has a smaller L1 norm"
            )
        _check_noise(math.sqrt(self.variance) / self.l2_sensitivity)

    def rdp(self, orders: Sequence[float], *, units: int = 1) -> Rdp:
        """Return `rounds` times the bound for one sum."""
        return self.rounds * _between(orders, lambda order: self._whole(order, units))

    def dp_event(self) -> None:
        """Return None: dp-accounting does not know it."""

    def words(self) -> str:
        """Return sums, and noise over L2 sensitivity."""
        noise = math.sqrt(self.variance) / self.l2_sensitivity
        return f"{self.rounds} Skellam sum(s), noise {noise:.4g}"

    def _whole(self, order: int, units: int) -> float:
        l2, l1 = (units * self.l2_sensitivity) ** 2, units * self.l1_sensitivity
        mu = self.variance
        tail = min(((2 * order - 1) * l2 + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
        return order * l2 / (2 * mu) + tail


@dataclass(frozen=True, kw_only=True)
class SampledSkellamSum:
    """Steps of a sum over all sites with Skellam noise, each unit drawn with `sampling_rate`.

    The other parameters as in `SkellamSum`. With e_k the Rényi divergence of order k of the sum
    without sampling (e_0 = e_1 = 0), that of order a with Poisson sampling is at most

        log( sum_k C(a, k) (1 - q)^(a - k) q^k exp((k - 1) e_k) ) / (a - 1),

    the binomial expansion of the mixture's likelihood ratio. The other direction is no larger,
    because a reflection exchanges the two centres. Source: Mironov, Talwar, Zhang 2019, section 3.3
    and Theorem 5; Agarwal, Kairouz, Liu 2021 for e_k. At whole orders.
    """

    kind: ClassVar[str] = "sampled_skellam_sum"
    l2_sensitivity: float
    l1_sensitivity: float
    variance: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        self.whole()  # checks the sum
        check_range("privacy.sampling_rate", self.sampling_rate, 0, 1, example=0.01, open_low=True)

    def whole(self) -> SkellamSum:
        """Return the steps without sampling."""
        return SkellamSum(
            l2_sensitivity=self.l2_sensitivity,
            l1_sensitivity=self.l1_sensitivity,
            variance=self.variance,
            rounds=self.steps,
        )

    def rdp(self, orders: Sequence[float], *, units: int = 1) -> Rdp:
        """Return `steps` times the bound for one step.

        A person who is several units is drawn more often than one: no sampling is counted then.
        """
        if units > 1 or self.sampling_rate == 1:
            return self.whole().rdp(orders, units=units)
        one = dataclasses.replace(self.whole(), rounds=1)
        rate = self.sampling_rate
        return self.steps * (_between(orders, lambda order: _sampled(one, rate, order)) + _ROUNDING)

    def dp_event(self) -> None:
        """Return None: dp-accounting does not know it."""

    def words(self) -> str:
        """Return steps, noise over L2 sensitivity, and rate."""
        noise = math.sqrt(self.variance) / self.l2_sensitivity
        return f"{self.steps} shared steps, noise {noise:.4g}, rate {self.sampling_rate:.4g}"


def _sampled(one: SkellamSum, rate: float, order: int) -> float:
    """Return the bound of `SampledSkellamSum` at a whole order of 2 or more."""
    from scipy import special  # heavy: a site's process opens its ledger for every message

    terms = np.arange(order + 1)
    logs = special.gammaln(order + 1) - special.gammaln(terms + 1)
    logs -= special.gammaln(order - terms + 1)
    logs += (order - terms) * math.log1p(-rate) + terms * math.log(rate)
    logs[2:] += [(k - 1) * one._whole(k, 1) for k in range(2, order + 1)]
    return float(special.logsumexp(logs)) / (order - 1)


@dataclass(frozen=True, kw_only=True)
class Pure:
    """A release that is `epsilon`-private with delta 0: a noisy maximum, a sparse vector answer.

    Rényi divergence of order a: at most min(epsilon, a epsilon^2 / 2) (Bun and Steinke 2016,
    Prop. 3.3).
    """

    kind: ClassVar[str] = "pure"
    epsilon: float

    def __post_init__(self) -> None:
        check_range("privacy.epsilon", self.epsilon, 0, 100, example=0.1, open_low=True)

    def rdp(self, orders: Sequence[float], *, units: int = 1) -> Rdp:
        """Return the bound."""
        whole = units * self.epsilon
        return np.minimum(whole, np.asarray(orders, np.float64) * whole**2 / 2)

    def dp_event(self) -> None:
        """Return None: dp-accounting knows no worst case of this kind under add or remove."""

    def words(self) -> str:
        """Return epsilon."""
        return f"pure, epsilon {self.epsilon:.4g}"


AnyEvent = SampledGaussian | Gaussian | SkellamSum | SampledSkellamSum | Pure

EVENTS: dict[str, type[AnyEvent]] = {
    event.kind: event for event in (SampledGaussian, Gaussian, SkellamSum, SampledSkellamSum, Pure)
}

_COUNTS: dict[type[AnyEvent], str] = {
    SampledGaussian: "steps",
    SkellamSum: "rounds",
    SampledSkellamSum: "steps",
}


def event_to_json(event: AnyEvent) -> dict[str, Any]:
    """Return the kind and the parameters as plain values."""
    values = {name: kind(getattr(event, name)) for name, kind in _types(type(event)).items()}
    return {"kind": event.kind, **values}


def event_from_json(content: object) -> AnyEvent:
    """Read what `event_to_json` wrote.

    Raises
    ------
    ConfigError
        If the kind is unknown, a parameter is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(content, Mapping) or content.get("kind") not in EVENTS:
        kind = content.get("kind") if isinstance(content, Mapping) else content
        raise ConfigError(f"event={kind!r}; expected one of {', '.join(EVENTS)}")
    event = EVENTS[content["kind"]]
    types = _types(event)
    given = {key: value for key, value in content.items() if key != "kind"}
    if given.keys() != types.keys():
        raise ConfigError(f"event={event.kind} with {sorted(given)}; expected {sorted(types)}")
    for key, value in given.items():
        if type(value) is not types[key]:
            raise ConfigError(f"{event.kind}.{key}={value!r}; expected {types[key].__name__}")
    return event(**given)


def total_rdp(events: Sequence[AnyEvent], orders: Sequence[float], *, units: int = 1) -> Rdp:
    """Return the sum over the events at each order, in nats."""
    return sum((event.rdp(orders, units=units) for event in events), start=np.zeros(len(orders)))


def apart(event: AnyEvent) -> tuple[AnyEvent, int]:
    """Return the event as it happens once, and how often it happens."""
    name = _COUNTS.get(type(event))
    if name is None:
        return event, 1
    once: dict[str, Any] = {name: 1}
    return dataclasses.replace(event, **once), getattr(event, name)


def _check_noise(value: float) -> None:
    check_range("privacy.noise_multiplier", value, LEAST_NOISE, _MOST, example=1.0)


def _check_count(key: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key}={value!r}; expected a whole number, e.g. 100")
    check_range(key, value, 1, 1e8, example=100)


def _types(event: type[AnyEvent]) -> dict[str, type[int] | type[float]]:
    return {f.name: int if f.type == "int" else float for f in dataclasses.fields(event)}


def _between(orders: Sequence[float], whole: Callable[[int], float]) -> Rdp:
    """Return a bound at any orders above 1 from bounds at whole orders.

    (a - 1) times the divergence of order a is convex in a and 0 at 1: a straight line bounds it.
    """
    found = []
    for order in map(float, orders):
        low = math.floor(order)
        share = order - low
        below = (low - 1) * whole(low) if low > 1 else 0.0
        above = low * whole(low + 1) if share else 0.0
        found.append(((1 - share) * below + share * above) / (order - 1))
    return np.array(found)


@lru_cache(maxsize=65536)
def _sampled_gaussian(noise: float, rate: float, order: int) -> float:
    import dp_accounting as dp
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant([order])
    accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)))
    return max(0.0, float(accountant.rdp[0]))
