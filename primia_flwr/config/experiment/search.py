"""Federated search inside one run: how many configurations, who goes on, what may vary."""

from dataclasses import dataclass, field
from typing import Any

from primia_flwr.config.checks import check_range
from primia_flwr.config.experiment.halving import Rung, halving_rungs, random_search_rungs
from primia_flwr.errors import ConfigError


@dataclass
class SearchConfig:
    """A search for a configuration among a population, in one run; `population` 0: no search.

    The first configuration is the experiment's own, the others are drawn from `space` (see
    `primia_flwr.config.search.space`), independently of each other. `halving`: the best 1/eta of a
    rung go on; the first rung takes `first_rung` rounds, 0: as follows from the length of the last
    one, which is federation.rounds. Without halving, a random search with the same budget: fewer
    configurations, each trained for federation.rounds.
    """

    population: int = 0
    eta: int = 3
    halving: bool = True
    first_rung: int = 0
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range("search.population", self.population, 0, 1000, example=9)
        if self.population == 1:
            raise ConfigError(
                "search.population=1; expected 2 or more configurations to choose from, e.g. 9, "
                "or 0 for a run without a search"
            )
        check_range("search.eta", self.eta, 2, 100, example=3)
        check_range("search.first_rung", self.first_rung, 0, 10_000, example=0)

    @property
    def enabled(self) -> bool:
        """Whether the run is a search."""
        return self.population > 0

    @property
    def bound_to_its_rounds(self) -> str:
        """Why the run cannot be lengthened; nothing where it can."""
        if not self.enabled:
            return ""
        return (
            "a search has spent its rounds on many configurations; start a new run with the "
            "chosen configuration"
        )

    def rungs(self, rounds: int) -> list[Rung]:
        """Return the rungs of a search whose full training is `rounds` rounds; none of no search.

        Raises
        ------
        ConfigError
            If the population does not fit the rounds.
        """
        if not self.enabled:
            return []
        halving = halving_rungs(self.population, self.eta, rounds, self.first_rung)
        return halving if self.halving else random_search_rungs(halving)
