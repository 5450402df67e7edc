"""A rule of aggregation as one row: its options, what it needs of a round, and how it is built."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from primia_flwr.config.checks import check_choice, check_range, nearest
from primia_flwr.errors import ConfigError
from primia_flwr.storage.printable import printable, shown


class Need(Enum):
    """What a rule is fed in a round."""

    EACH_UPDATE = "each site's update"
    MEAN = "the weighted mean of the updates"
    ONE_SITE = "the model of one site, handed from site to site"
    OWN_MODEL = "each site's own model, which stays apart"


@dataclass(frozen=True)
class NoOptions:
    """The options of a rule that has none."""


@dataclass(frozen=True)
class RelayOrder:
    """The options of a relay.

    `order`: of the sites in a cycle, as `listed` in federation.sites or at `random`, drawn anew for
    each cycle from the seed. `proportional`: with training.sync_every_n_batches, a site takes so
    many batches times its share of the images, relative to the mean of the sites.
    """

    order: str = "listed"
    proportional: bool = False

    def __post_init__(self) -> None:
        check_choice("strategy.options.order", self.order, ("listed", "random"))

    def check(self, experiment: Any) -> None:
        """Refuse what a relay has no use for, and what would show more than it says.

        Raises
        ------
        ConfigError
            Naming the first such key.
        """
        if self.proportional and not experiment.training.sync_every_n_batches:
            raise ConfigError(
                "strategy.options.proportional=true with training.sync_every_n_batches=0; expected "
                "batches: with whole epochs a site's steps follow its images already"
            )
        if experiment.search.enabled:
            raise ConfigError(
                f"strategy.name={experiment.strategy.name} with a search; expected search=none, or "
                "a rule that needs only the mean, e.g. strategy=fedavg: one model goes round"
            )
        if experiment.reports_nothing and experiment.data.normalisation.kind != "fixed":
            raise ConfigError(
                f"data.normalisation.kind={experiment.data.normalisation.kind} with "
                f"strategy.name={experiment.strategy.name} in a sealed or private run; expected "
                "fixed, with data.normalisation.mean and .std: no site tells statistics there"
            )
        if experiment.debug.record_received and experiment.aggregation.sealed:
            raise ConfigError(
                "debug.record_received=true with aggregation.sealed=true; expected false: nothing "
                "that the coordinator can read comes to it; record the same relay unsealed"
            )
        if self.proportional and experiment.reports_nothing:
            raise ConfigError(
                "strategy.options.proportional=true in a sealed or private run; expected false: "
                "how many images a site has is told to nobody there"
            )


@dataclass(frozen=True)
class ServerOptimizer:
    """The options of Adam and Yogi on the server (Reddi et al. 2021): step, decays, floor."""

    server_learning_rate: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        for name, example in (("server_learning_rate", 0.1), ("tau", 1e-3)):
            key = f"strategy.options.{name}"
            check_range(key, getattr(self, name), 0, example=example, open_low=True)
        for name in ("beta_1", "beta_2"):
            key = f"strategy.options.{name}"
            check_range(key, getattr(self, name), 0, 1, example=0.9, open_high=True)

    def numbers(self) -> dict[str, Any]:
        """Return them by the names that Flower gives them."""
        betas = {"beta_1": self.beta_1, "beta_2": self.beta_2}
        return {"eta": self.server_learning_rate, **betas, "tau": self.tau}


@dataclass(frozen=True)
class Liars:
    """`num_malicious`: how many sites may lie, f."""

    num_malicious: int = 0

    def __post_init__(self) -> None:
        check_range("strategy.options.num_malicious", self.num_malicious, 0, example=1)


def outnumbered(options: Liars, experiment: Any, *, times: int) -> None:
    """Refuse a federation whose rounds may have fewer than `times` f + 3 updates.

    Raises
    ------
    ConfigError
        If `federation.min_sites` is below that.
    """
    liars, sites = options.num_malicious, experiment.federation.min_sites
    needed = times * liars + 3
    if sites < needed:
        raise ConfigError(
            f"strategy.options.num_malicious={liars} with federation.min_sites={sites}; "
            f"{experiment.strategy.name} needs {times}*{liars}+3 updates in every round; set "
            f"federation.min_sites={needed} or more"
        )


def _fits(options: Any, experiment: Any) -> None:
    """Find nothing wrong."""


@dataclass(frozen=True)
class Rule:
    """One rule; the file that defines it as `RULE` names it.

    Parameters
    ----------
    build : callable of (options, experiment)
        Returns the Flower strategy; what is slow to import is imported in it.
    needs : Need
        A rule that does not say `MEAN` is fed each site's update, and nothing else.
    options : dataclass
        Of `strategy.options`: numbers, texts and truth values, each with a default, whose type it
        must have; its `__post_init__` checks ranges.
    check : callable of (options, experiment)
        Raises `ConfigError` where the rest of the experiment does not fit.
    variates : bool
        Sites correct their steps by control variates, and send their change beside the update.
    """

    build: Callable[[Any, Any], Any]
    needs: Need = Need.EACH_UPDATE
    options: type = NoOptions
    check: Callable[[Any, Any], None] = _fits
    variates: bool = False

    def read(self, given: dict[str, Any]) -> Any:
        """Return `strategy.options` as the rule's own dataclass.

        Raises
        ------
        ConfigError
            If a key is unknown, or a value is of another type or out of range.
        """
        known, values = self.defaults(), dict[str, Any]()
        for key, value in given.items():
            if key not in known:
                raise ConfigError(
                    f"unknown key strategy.options.{printable(str(key), limit=80)}; expected "
                    f"{', '.join(known) or 'none for this rule'}{nearest(str(key), known)}"
                )
            values[key] = as_type_of(known[key], value)
            if values[key] is None:
                raise ConfigError(
                    f"strategy.options.{key}={shown(value)}; expected "
                    f"{_NAMES[type(known[key])]}, e.g. {known[key]}"
                )
        return self.options(**values)

    def defaults(self) -> dict[str, Any]:
        """Return the default of each option."""
        return {field.name: field.default for field in fields(self.options)}


_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


def as_type_of(default: Any, value: Any) -> Any:
    """Return a value as its option holds it, or None if it is of another type."""
    if type(value) is int and abs(value) >= 2**64:
        return None
    if type(value) is int and type(default) is float:
        return float(value)
    return value if type(value) is type(default) else None
