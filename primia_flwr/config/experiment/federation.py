"""Who takes part in a run, for how long, and what a site keeps of it."""

from dataclasses import dataclass, field

from primia_flwr.config.checks import check_length, check_range
from primia_flwr.errors import ConfigError


@dataclass
class FederationConfig:
    """Who takes part and for how long.

    `sites` names the simulated sites (or, in a deployment, the roster's sites); a run starts
    and a round counts only with at least `min_sites` of them. Times are in seconds.
    """

    rounds: int = 8
    sites: list[str] = field(default_factory=lambda: ["site-1", "site-2", "site-3"])
    min_sites: int = 2
    round_timeout: float = 3600.0
    wait_for_sites: float = 600.0
    cpus_per_site: int = 0
    gpus_per_site: float = 0.0

    def __post_init__(self) -> None:
        check_range("federation.rounds", self.rounds, 1, 10_000, example=10)
        check_length("federation.sites", self.sites, 1, 1000, example="[munich,paris,london]")
        if len(set(self.sites)) != len(self.sites):
            raise ConfigError(
                f"federation.sites={self.sites}; expected different names, e.g. [munich,paris]"
            )
        if not 1 <= self.min_sites <= len(self.sites):
            raise ConfigError(
                f"federation.min_sites={self.min_sites} with {len(self.sites)} federation.sites; "
                f"expected 1 to {len(self.sites)}; name more sites, or lower it (secure "
                "aggregation needs 3: with fewer sites, aggregation=plain, which hides nothing)"
            )
        check_range("federation.round_timeout", self.round_timeout, 1, example=3600)
        check_range("federation.wait_for_sites", self.wait_for_sites, 0, example=600)
        check_range("federation.cpus_per_site", self.cpus_per_site, 0, example=0)
        check_range("federation.gpus_per_site", self.gpus_per_site, 0, example=0.25)


@dataclass
class ClientConfig:
    """What a site keeps of a run.

    `keep_states`: how many rounds of its private state (optimiser, early stopping) a site
    keeps, so that a run that goes on from an older checkpoint finds the one it needs.
    """

    keep_states: int = 3

    def __post_init__(self) -> None:
        check_range("client.keep_states", self.keep_states, 2, 100, example=3)
