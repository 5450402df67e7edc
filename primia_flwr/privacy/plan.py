"""What can be afforded: the noise that a wanted epsilon needs, and how far given noise reaches.

The noise multiplier of a row is one that the site's filter lets through; the epsilon by privacy
loss distributions, which holds if the plan is followed as it stands, is reported beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from primia_flwr.config.checks import check_range
from primia_flwr.errors import ConfigError
from primia_flwr.privacy.accountant import epsilon, noise_multiplier_for
from primia_flwr.privacy.events import Rdp, SampledGaussian
from primia_flwr.privacy.filter import RdpFilter, check_delta

_DECIMALS = 1000  # a noise multiplier is rounded up to this


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
    """Epochs for an epsilon. `noise_on_mean`: its noise on the mean, in clipping norms."""

    epsilon: float
    epochs: float
    steps: int
    noise_multiplier: float
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


def rows(
    data: Data,
    *,
    epsilons: Sequence[float],
    epochs: Sequence[float],
    delta: float,
    site: RdpFilter | None = None,
    before: Rdp | None = None,
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
        chosen = _filter(site, wanted, delta)
        steps = data.steps(many)
        noise = noise_multiplier_for(
            epsilon=wanted,
            delta=delta,
            sampling_rate=data.sampling_rate,
            steps=steps,
            by=chosen,
            before=before,
        )
        noise = math.ceil(noise * _DECIMALS) / _DECIMALS
        event = SampledGaussian(
            noise_multiplier=noise, sampling_rate=data.sampling_rate, steps=steps
        )
        by_pld = epsilon([event], delta=delta).epsilon
        found.append(Row(wanted, many, steps, noise, by_pld, noise / data.batch))
    return found


def reaches(
    data: Data,
    *,
    epsilons: Sequence[float],
    noise_multipliers: Sequence[float],
    delta: float,
    site: RdpFilter | None = None,
    before: Rdp | None = None,
) -> list[Reach]:
    """Return how many steps the filter lets through for each epsilon and noise multiplier.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """
    check_delta(delta, data.units)
    found = []
    for wanted, noise in ((e, n) for e in epsilons for n in noise_multipliers):
        chosen = _filter(site, wanted, delta)
        one = SampledGaussian(noise_multiplier=noise, sampling_rate=data.sampling_rate, steps=1)
        steps = _most_steps(chosen, one.rdp(chosen.orders), wanted, before)
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


def _filter(site: RdpFilter | None, wanted: float, delta: float) -> RdpFilter:
    return site or RdpFilter.planned(epsilon=wanted, delta=delta)


def _most_steps(chosen: RdpFilter, one: Rdp, ceiling: float, before: Rdp | None) -> int:
    spent = np.zeros(len(one)) if before is None else before
    room = (ceiling - chosen.overhead() - spent) / one
    steps = max(0, math.floor(float(np.max(room))))
    while steps and not chosen.allows(spent + steps * one, ceiling=ceiling):  # rounding
        steps -= 1
    return steps
