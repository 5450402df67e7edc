"""How the federation trains: the strategy, the rounds, and what a site does between them."""

import re
from dataclasses import dataclass, field

from primia_flwr.config.checks import check_choice, check_day, check_length, check_range
from primia_flwr.errors import ConfigError

STRATEGY_NAMES = (
    "fedavg",
    "fedprox",
    "fedadam",
    "fedyogi",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
)
WEIGHTINGS = ("images", "batches", "equal")
# Rules that look at single updates, which secure aggregation hides.
NEEDS_SINGLE_UPDATES = ("fedmedian", "fedtrimmedavg", "krum")
OVERFLOWS = ("decline", "clip")


@dataclass
class SecureConfig:
    """Secure aggregation: the coordinator learns sums over sites and nothing else.

    `clip`: largest magnitude of an entry of an update; `overflow`: a site with a larger one
    declines the round, or clips and counts it. `max_weight`: a site's weight must not pass it.
    `min_survivors`, `max_colluding`: sites in any sum, and sites that may work together with the
    coordinator; each site's policy may ask for more. `accept_two`: sums over two sites, in which
    each learns the other's update. `degree`: neighbours of each site on a sparse graph, an even
    number, 0 for all: sparse holds against an honest-but-curious coordinator only.
    `allow_other_survivors`: the sums of a run, and of several, may be over lists of sites whose
    differences show few of them; a deployed site does so only where its own policy says it, too.
    `member_lists_since`: lists of before this day (ISO, e.g. 2026-11-29) do not count, at the
    sites whose policies say so, too.
    `audit`: in a
    simulation, compare each mean with the float64 one of the sites' own updates, which they then
    write down. `run`: the run's own name, which the launcher draws; a resumed run keeps it.
    """

    enabled: bool = False
    clip: float = 32.0
    overflow: str = "decline"
    max_weight: int = 10_000
    min_survivors: int = 3
    max_colluding: int = 0
    accept_two: bool = False
    degree: int = 0
    allow_other_survivors: bool = False
    member_lists_since: str = ""
    audit: bool = False
    run: str = ""

    def __post_init__(self) -> None:
        check_range("strategy.secure.clip", self.clip, 0, 1e6, example=32.0, open_low=True)
        check_choice("strategy.secure.overflow", self.overflow, OVERFLOWS)
        check_range("strategy.secure.max_weight", self.max_weight, 1, 10**7, example=10_000)
        check_range("strategy.secure.max_colluding", self.max_colluding, 0, 1000, example=1)
        check_range("strategy.secure.min_survivors", self.min_survivors, 2, 1000, example=3)
        check_range("strategy.secure.degree", self.degree, 0, 254, example=0)
        check_day("strategy.secure.member_lists_since", self.member_lists_since)
        if not re.fullmatch(r"([0-9a-f]{32})?", self.run):
            raise ConfigError(
                f"strategy.secure.run={self.run!r:.80}; expected nothing, or the 32 hexadecimal "
                "digits that the launcher drew"
            )
        least = max(2 if self.accept_two else 3, self.max_colluding + 2)
        if self.min_survivors < least:
            raise ConfigError(
                f"strategy.secure.min_survivors={self.min_survivors}; expected at least {least}: "
                "with fewer, a site's update follows from the sum and what the others know"
            )


@dataclass
class StrategyConfig:
    """The aggregation rule.

    `weighting` sets w_k of the weighted mean sum(w_k x_k) / sum(w_k): the number of training
    images of the site, the number of batches it computed this round, or one. With
    `weight_digits` the sites round it to so many significant digits; 0: exact in a plain run,
    as the site's policy says in a secure one. Means are computed in the fixed point of secure
    aggregation, in a plain run too, so that both end in the same model; `float_mean`, in a plain
    run: in float64. `cross_site`: after the last round each site's own model is validated at every
    site, so each site then holds the others' models; in plain runs only. `record_received`, in a
    simulation: keep the bytes that the coordinator received in each round, for `primia attack`.
    """

    name: str = "fedavg"
    weighting: str = "images"
    weight_digits: int = 0
    server_learning_rate: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3
    trim_fraction: float = 0.2
    num_malicious: int = 0
    float_mean: bool = False
    cross_site: bool = False
    record_received: bool = False
    secure: SecureConfig = field(default_factory=SecureConfig)

    def __post_init__(self) -> None:
        check_choice("strategy.name", self.name, STRATEGY_NAMES)
        if self.secure.enabled and self.name in NEEDS_SINGLE_UPDATES:
            raise ConfigError(
                f"strategy.name={self.name} with strategy.secure.enabled=true; expected a rule "
                "that needs only the mean (fedavg, fedprox, fedadam, fedyogi), because "
                f"{self.name} compares single updates and secure aggregation shows none"
            )
        if self.float_mean and self.secure.enabled:
            raise ConfigError(
                "strategy.float_mean=true with strategy.secure.enabled=true; expected a plain run, "
                "e.g. strategy=fedavg: masked updates add up in fixed point only"
            )
        if self.cross_site and self.secure.enabled:
            raise ConfigError(
                "strategy.cross_site=true with strategy.secure.enabled=true; expected a plain run, "
                "e.g. strategy=fedavg: the cross-site matrix needs each site's own model and its "
                "own counts, and secure aggregation shows sums only"
            )
        check_choice("strategy.weighting", self.weighting, WEIGHTINGS)
        check_range("strategy.weight_digits", self.weight_digits, 0, 9, example=2)
        check_range(
            "strategy.server_learning_rate",
            self.server_learning_rate,
            0,
            example=0.1,
            open_low=True,
        )
        for key in ("beta_1", "beta_2"):
            check_range(f"strategy.{key}", getattr(self, key), 0, 1, example=0.9, open_high=True)
        check_range("strategy.tau", self.tau, 0, example=1e-3, open_low=True)
        check_range(
            "strategy.trim_fraction", self.trim_fraction, 0, 0.5, example=0.2, open_high=True
        )
        check_range("strategy.num_malicious", self.num_malicious, 0, example=1)

    @property
    def largest_weight(self) -> int:
        """w_max, by which the fixed point scales updates; 1 where all weigh alike."""
        return 1 if self.weighting == "equal" else self.secure.max_weight


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
                "aggregation needs 3: with fewer sites, strategy=fedavg, which is not private)"
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
