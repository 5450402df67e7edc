"""Successive halving: how many configurations train for how many rounds.

A rung trains every configuration that is left up to a number of rounds of its own; the best
1/eta of them go on. The last one trains for the full length.

Source: Jamieson & Talwalkar 2016, Non-stochastic Best Arm Identification and Hyperparameter
Optimization; the lengths in geometric progression as in Li et al. 2018, Hyperband, Alg. 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from primia_flwr.errors import ConfigError


@dataclass(frozen=True)
class Rung:
    """One rung: so many configurations, each trained up to `rounds` rounds of its own in all."""

    configurations: int
    rounds: int


def halving_rungs(population: int, eta: int, rounds: int, first: int = 0) -> list[Rung]:
    """Return the rungs of a successive halving.

    Parameters
    ----------
    population : int
        Configurations at the start, 2 or more.
    eta : int
        One of `eta` goes on, 2 or more; at least one always does.
    rounds : int
        Of the last rung: the full length of a training.
    first : int
        Rounds of the first rung; 0: so that each rung is `eta` times as long as the one before.

    Raises
    ------
    ConfigError
        If the rungs are too many for so few rounds.
    """
    sizes = [population]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // eta))
    steps = len(sizes) - 1
    shortest = first or rounds / eta**steps
    growth = (rounds / shortest) ** (1 / steps)
    lengths = [round(shortest * growth**step) for step in range(steps)] + [rounds]
    rising = all(low < high for low, high in pairwise(lengths))
    if lengths[0] < 1 or not rising:
        raise ConfigError(
            f"search.population={population} with search.eta={eta}, search.first_rung={first} and "
            f"federation.rounds={rounds} makes rungs of {_listed(lengths)} rounds; expected "
            f"rungs of 1 round or more that grow; set federation.rounds={eta**steps} or more, or "
            "a smaller population"
        )
    return [Rung(size, length) for size, length in zip(sizes, lengths, strict=True)]


def rounds_in_all(rungs: Sequence[Rung]) -> int:
    """Return the rounds that all configurations together train: those of one go on in the next."""
    before = [0, *(rung.rounds for rung in rungs)]
    return sum(
        rung.configurations * (rung.rounds - earlier)
        for rung, earlier in zip(rungs, before, strict=False)
    )


def random_search_rungs(halving: Sequence[Rung]) -> list[Rung]:
    """Return the one rung of a random search that trains no more rounds than a halving.

    Raises
    ------
    ConfigError
        If the budget is that of fewer than two configurations.
    """
    full = halving[-1].rounds
    count = rounds_in_all(halving) // full
    if count < 2:
        raise ConfigError(
            f"search.halving=false with search.population={halving[0].configurations}: its budget "
            f"of {rounds_in_all(halving)} rounds is less than two trainings of {full}; expected a "
            "larger search.population, e.g. 9"
        )
    return [Rung(count, full)]


def _listed(lengths: Sequence[int]) -> str:
    return ", ".join(str(length) for length in lengths)
