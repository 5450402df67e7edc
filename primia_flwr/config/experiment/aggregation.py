"""How the coordinator learns the result of a round, and what that can give to a rule."""

import re
from dataclasses import dataclass

from primia_flwr.config.checks import check_choice, check_day, check_range
from primia_flwr.config.rules import Need
from primia_flwr.errors import ConfigError

# What each way of aggregation can feed a rule with.
GIVES: dict[str, tuple[Need, ...]] = {
    "plain": (Need.EACH_UPDATE, Need.MEAN, Need.OWN_MODEL),
    "secure": (Need.MEAN,),
    "relay": (Need.ONE_SITE,),
    "asynchronous": (Need.MEAN,),
    "buffered": (Need.MEAN,),
}
_OVERFLOWS = ("decline", "clip")
_REVEALED = ("end", "never")
_SHARED_BY = ("random", "change", "own")


@dataclass
class AggregationConfig:
    """How updates, or models, reach the coordinator.

    `plain`: each update does. `secure`: sums over sites. `relay`: no sums. `asynchronous`: each
    update, whenever it is ready. `buffered`: sums over the sites whose updates are ready.

    Means are computed in the fixed point of secure aggregation, in a plain run too, so that both
    end in the same model; `float_mean`, in a plain run: in float64. `clip`: largest magnitude of an
    entry of an update; `overflow`: a site with a larger one declines the round, or clips and counts
    it. `max_weight`: a site's weight must not pass it. `share`: which part of an update's numbers a
    site sends in a round; it keeps the others, and goes on from them. `share_by`: which
    they are: `random`, drawn by seed and round, alike at all sites; `change`, half of them those
    that the last round changed most, the others drawn; `own`, each site's own largest, in plain
    runs. `receive`: which part of the model a site gets: all of it.

    Of a relay, in which the model goes from site to site through the coordinator: `sealed`, each
    site encrypts its model for the next one; `reveal`: whether the coordinator is given the model
    of the `end`, or `never` any.

    Of an asynchronous run, in which a round takes the updates that are ready: `buffer`, how many;
    `mixing`, which part of their mean moves the model; `staleness_power`, a: an update counts
    (1 + s)^-a times where s rounds were made since its site got the model; `max_staleness`: one
    that is older is left out; `validate_every`: after so many rounds all sites validate the model,
    0: after the last only. Of a buffered one the same, and `mixed_rounds`: a sum may be over
    updates of different rounds' models, of which a site knows its own only; a deployed site is in
    such sums only where its policy says it, too.

    Of secure aggregation: `min_survivors`, `max_colluding`: sites in any sum, and sites that may
    work together with the coordinator; each site's policy may ask for more. `accept_two`: sums over
    two sites, in which each learns the other's update. `degree`: neighbours of each site on a
    sparse graph, an even number, 0 for all: sparse holds against an honest-but-curious coordinator
    only. `allow_other_survivors`: the sums of a run, and of several, may be over lists of sites
    whose differences show few of them; a deployed site does so only where its own policy says it,
    too. `member_lists_since`: lists of before this day (ISO, e.g. 2026-11-29) do not count, at the
    sites whose policies say so, too. `run`: the run's own name, which the launcher draws; a resumed
    run keeps it.
    """

    name: str = "plain"
    clip: float = 32.0
    overflow: str = "decline"
    max_weight: int = 10_000
    float_mean: bool = False
    share: float = 1.0
    share_by: str = "random"
    receive: float = 1.0
    sealed: bool = False
    reveal: str = "end"
    buffer: int = 3
    mixing: float = 1.0
    staleness_power: float = 0.5
    max_staleness: int = 100
    validate_every: int = 0
    mixed_rounds: bool = False
    min_survivors: int = 3
    max_colluding: int = 0
    accept_two: bool = False
    degree: int = 0
    allow_other_survivors: bool = False
    member_lists_since: str = ""
    run: str = ""

    def __post_init__(self) -> None:
        check_choice("aggregation.name", self.name, GIVES)
        check_range("aggregation.clip", self.clip, 0, 1e6, example=32.0, open_low=True)
        check_choice("aggregation.overflow", self.overflow, _OVERFLOWS)
        check_range("aggregation.max_weight", self.max_weight, 1, 10**7, example=10_000)
        check_range("aggregation.share", self.share, 0, 1, example=0.1, open_low=True)
        check_choice("aggregation.share_by", self.share_by, _SHARED_BY)
        check_choice("aggregation.reveal", self.reveal, _REVEALED)
        self._check_asynchronous()
        check_range("aggregation.max_colluding", self.max_colluding, 0, 1000, example=1)
        check_range("aggregation.min_survivors", self.min_survivors, 2, 1000, example=3)
        check_range("aggregation.degree", self.degree, 0, 254, example=0)
        check_day("aggregation.member_lists_since", self.member_lists_since)
        self._check_run()
        self._check_together()

    def _check_together(self) -> None:
        if self.receive != 1:
            raise ConfigError(
                f"aggregation.receive={self.receive:g}; expected 1: every site gets the whole "
                "model, because one that missed a round would need other numbers than the rest, "
                "and masks add up only where all were sent the same"
            )
        if self.reveal == "never" and not self.sealed:
            raise ConfigError(
                "aggregation.reveal=never with aggregation.sealed=false; expected sealed=true: "
                "otherwise the coordinator sees every model"
            )
        if self.sealed and not self.relayed:
            raise ConfigError(
                f"aggregation.sealed=true with aggregation.name={self.name}; expected "
                "aggregation=relay: only there a site's model goes to another site"
            )
        if self.float_mean and self.secure:
            raise ConfigError(
                f"aggregation.float_mean=true with aggregation.name={self.name}; expected "
                "aggregation=plain: masked updates add up in fixed point only"
            )

    def _check_asynchronous(self) -> None:
        check_range("aggregation.buffer", self.buffer, 1, 1000, example=3)
        check_range("aggregation.mixing", self.mixing, 0, 1, example=0.6, open_low=True)
        check_range("aggregation.staleness_power", self.staleness_power, 0, 100, example=0.5)
        check_range("aggregation.max_staleness", self.max_staleness, 0, 10_000, example=100)
        check_range("aggregation.validate_every", self.validate_every, 0, 10_000, example=10)

    def _check_run(self) -> None:
        if not re.fullmatch(r"([0-9a-f]{32})?", self.run):
            raise ConfigError(
                f"aggregation.run={self.run!r:.80}; expected nothing, or the 32 hexadecimal "
                "digits that the launcher drew"
            )
        least = max(2 if self.accept_two else 3, self.max_colluding + 2)
        if self.min_survivors < least:
            raise ConfigError(
                f"aggregation.min_survivors={self.min_survivors}; expected at least {least}: "
                "with fewer, a site's update follows from the sum and what the others know"
            )

    @property
    def least_sites(self) -> int:
        """How many sites a round needs at least for what the aggregation hides."""
        return self.min_survivors if self.secure else 1

    @property
    def shares_a_part(self) -> bool:
        """Whether a site sends a part of its update's numbers only."""
        return self.share < 1

    def num_shared(self, entries: int) -> int:
        """Return how many of an update's numbers a site sends in a round: one at least."""
        return min(entries, max(1, round(self.share * entries)))

    @property
    def relayed(self) -> bool:
        """Whether the model goes from site to site."""
        return self.name == "relay"

    @property
    def asynchronous(self) -> bool:
        """Whether a round takes the updates that are ready, and waits for no others."""
        return self.name in ("asynchronous", "buffered")

    @property
    def buffered(self) -> bool:
        """Whether a round is a secure sum over the updates that are ready."""
        return self.name == "buffered"

    @property
    def way(self) -> str:
        """The name, which says of a relay whether it is sealed."""
        return f"sealed {self.name}" if self.sealed else self.name

    @property
    def relay_words(self) -> str:
        """Who saw the sites' models in a relay, as a sentence; nothing of other runs."""
        if not self.relayed:
            return ""
        if not self.sealed:
            return "Relay: the next site and the coordinator saw each site's model"
        end = "no model at all" if self.withheld else "the last model alone"
        return f"Sealed relay: the next site saw each site's model, the coordinator {end}"

    @property
    def withheld(self) -> bool:
        """Whether the coordinator gets no model at all: each site keeps the last one."""
        return self.sealed and self.reveal == "never"

    @property
    def bound_to_its_rounds(self) -> str:
        """Why the run cannot be lengthened; nothing where it can."""
        if not self.sealed:
            return ""
        return (
            "the sites of a sealed relay give the last model once, after the rounds that they "
            "began with; start a new run, with that model as model.weights"
        )

    @property
    def named(self) -> bool:
        """Whether a run has a name of its own, and its sites the identities of a roster."""
        return self.secure or self.relayed or self.asynchronous

    @property
    def secure(self) -> bool:
        """Whether the coordinator sees sums only."""
        return self.name in ("secure", "buffered")
