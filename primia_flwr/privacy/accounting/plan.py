"""What can be afforded: the noise that a wanted epsilon needs, and how far given noise reaches.

As a site counts: a run that is planned as a whole by privacy loss distributions, or the Rényi
criteria of its filter, whichever needs less noise. The epsilon that the plan would have with all of
delta, and nothing kept back for parameters that are chosen as one goes, is reported beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accounting.accountant import PLD_UP_TO, noise_multiplier_for
from primia_flwr.privacy.accounting.events import SampledGaussian
from primia_flwr.privacy.accounting.filter import SiteFilter, Spent, check_delta
from primia_flwr.privacy.accounting.run_plan import price

_DECIMALS = 1000  # a noise multiplier is rounded up to this
_HUNDREDTH = 100
_MOST_STEPS = 10**7
_LEAST_PART = 1e-6  # of a ceiling: less is what rounding left


@dataclass(frozen=True)
class Data:
    """Public facts about a site's training: units, and how many a step expects to draw."""

    units: int
    batch: int

    def __post_init__(self) -> None:
        check_range("units", self.units, 1, 1e9, example=4708)
        if not 1 <= self.batch <= self.units:
            raise ConfigError(
                f"batch={self.batch} with units={self.units}; expected from 1 to units, because "
                "a sampling rate, batch/units, is at most 1"
            )

    @property
    def sampling_rate(self) -> float:
        """The probability with which a step draws a unit."""
        return self.batch / self.units

    def steps(self, epochs: float) -> int:
        """Return the steps in which every unit is drawn `epochs` times on average."""
        return math.ceil(epochs * self.units / self.batch)


@dataclass(frozen=True)
class Row:
    """Epochs for an epsilon. `noise_on_mean`: its noise on the mean, in clipping norms.

    `noise_pld`, `noise_rdp`: what a plan by privacy loss distributions and the Rényi criteria need,
    infinite where no noise is enough; `noise_multiplier` is the smaller one. `epsilon_filter`: the
    filter's spend after the run; `epsilon_pld`: of the run alone, as a plan with all of delta.
    """

    epsilon: float
    epochs: float
    steps: int
    noise_multiplier: float
    noise_pld: float
    noise_rdp: float
    epsilon_filter: float
    epsilon_pld: float
    noise_on_mean: float


@dataclass(frozen=True)
class Reach:
    """How many steps and epochs a noise multiplier affords within an epsilon."""

    epsilon: float
    noise_multiplier: float
    steps: int
    epochs: float


def delta_for(units: int) -> float:
    """Return a power of ten that is at most a tenth of 1/units."""
    return float(10.0 ** math.floor(math.log10(0.1 / units) + 1e-9))


@dataclass(frozen=True)
class _Room:
    """What a filter leaves of a ceiling above what somebody has spent."""

    filter: SiteFilter
    ceiling: float
    before: Spent

    @property
    def epsilon(self) -> float:
        """Of a planned run that takes all that is left of epsilon and delta; 0 where none is."""
        left = self.ceiling - self.filter.epsilon_of_runs(self.before)
        share = self.filter.runs * self.filter.delta
        part = 1 - float(self.before[1]) / share if share else 0.0
        found = min(left, part * self.ceiling)
        return found if found > _LEAST_PART * self.ceiling else 0.0

    @property
    def delta(self) -> float:
        """Of the same run."""
        return self.filter.delta_of_run(self.epsilon, self.ceiling)

    def spend(self, step: SampledGaussian) -> float:
        """Return the filter's spend after a run that is planned and kept to."""
        run = price([step], self.delta) if self._plans else None
        cost = self.filter.spent(
            step.rdp(self.filter.orders),
            epsilon=run.epsilon if run else math.inf,
            delta=run.delta if run else 0.0,
        )
        return self.filter.epsilon(self.before + cost)

    def noise(self, rate: float, steps: int) -> tuple[float, float]:
        """Return the least noise of a planned run, and by the Rényi criteria."""

        def by_plan() -> float:
            return noise_multiplier_for(
                epsilon=self.epsilon, delta=self.delta, sampling_rate=rate, steps=steps
            )

        def by_rdp() -> float:
            return noise_multiplier_for(
                epsilon=self.ceiling,
                delta=self.filter.delta,
                sampling_rate=rate,
                steps=steps,
                by=self.filter.rdp,
                before=self.before[2:],
            )

        return _or_none(by_plan) if self._plans else math.inf, _or_none(by_rdp)

    @property
    def _plans(self) -> bool:
        return self.epsilon > 0


def rows(
    data: Data,
    *,
    epsilons: Sequence[float],
    epochs: Sequence[float],
    delta: float,
    site: SiteFilter | None = None,
    before: Spent | None = None,
) -> list[Row]:
    """Return the noise that each epsilon needs for each number of epochs.

    Parameters
    ----------
    site, before : optional
        Of a ledger: its filter, and what its most used unit has spent. Otherwise each epsilon gets
        the filter of a ledger that begins with it as its ceiling.

    Raises
    ------
    ConfigError
        If a value is out of range, or nothing is left for an epsilon.
    """
    check_delta(delta, data.units)
    found = []
    for wanted, many in ((e, n) for e in epsilons for n in epochs):
        check_range("epochs", many, 0, 1e6, example=20, open_low=True)
        check_range("privacy.epsilon", wanted, 0, PLD_UP_TO, example=3, open_low=True)
        room, steps = _room(site, wanted, delta, before), data.steps(many)
        by_plan, by_rdp = map(_rounded_up, room.noise(data.sampling_rate, steps))
        noise = min(by_plan, by_rdp)
        if math.isinf(noise):
            raise ConfigError(
                f"privacy.epsilon={wanted:g}; expected one that some noise reaches in {steps} "
                "steps; ask for a larger epsilon or delta, or fewer steps; or nothing is left of "
                "the budget"
            )
        run = SampledGaussian(noise_multiplier=noise, sampling_rate=data.sampling_rate, steps=steps)
        alone = price([run], delta).epsilon
        figures = (noise, by_plan, by_rdp, room.spend(run), alone, noise / data.batch)
        found.append(Row(wanted, many, steps, *figures))
    return found


def reaches(
    data: Data,
    *,
    epsilons: Sequence[float],
    noise_multipliers: Sequence[float],
    delta: float,
    site: SiteFilter | None = None,
    before: Spent | None = None,
) -> list[Reach]:
    """Return how many steps the filter lets through for each epsilon and noise multiplier.

    To a hundredth: so many it lets through.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """
    check_delta(delta, data.units)
    found = []
    for wanted, noise in ((e, n) for e in epsilons for n in noise_multipliers):
        room = _room(site, wanted, delta, before)

        def fits(steps: int, noise: float = noise, room: _Room = room) -> bool:
            run = SampledGaussian(
                noise_multiplier=noise, sampling_rate=data.sampling_rate, steps=steps
            )
            return room.spend(run) <= room.ceiling

        steps = _most(fits)
        found.append(Reach(wanted, noise, steps, steps * data.batch / data.units))
    return found


def curves(found: Iterable[Row]) -> dict[float, tuple[list[float], list[float]]]:
    """Return epochs and noise multipliers of each epsilon, for a plot."""
    lines: dict[float, tuple[list[float], list[float]]] = {}
    for row in found:
        epochs, noise = lines.setdefault(row.epsilon, ([], []))
        epochs.append(row.epochs)
        noise.append(row.noise_multiplier)
    return lines


def _room(site: SiteFilter | None, wanted: float, delta: float, before: Spent | None) -> _Room:
    check_range("privacy.epsilon", wanted, 0, 1000, example=3, open_low=True)
    chosen = site or SiteFilter.planned(epsilon=wanted, delta=delta)
    return _Room(chosen, wanted, chosen.nothing() if before is None else before)


def _or_none(least: Callable[[], float]) -> float:
    """Return the least noise, or infinity where none is enough."""
    try:
        return least()
    except ConfigError:
        return math.inf


def _rounded_up(noise: float) -> float:
    return noise if math.isinf(noise) else math.ceil(noise * _DECIMALS) / _DECIMALS


def _most(fits: Callable[[int], bool]) -> int:
    """Return a number of steps that fits, at most a hundredth below the largest; 0 if none does."""
    low, high = 0, 1
    while high <= _MOST_STEPS and fits(high):
        low, high = high, high * 4
    while high - low > max(1, low // _HUNDREDTH):
        middle = round(math.sqrt(low * high)) if low else high // 2
        middle = min(max(middle, low + 1), high - 1)
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
