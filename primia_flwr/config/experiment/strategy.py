"""The rule that makes one model of the sites' updates, and how much each site weighs in it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from primia_flwr.config.checks import check_choice, check_range
from primia_flwr.config.rows import RULES
from primia_flwr.config.rules import Need, Rule

_WEIGHTINGS = ("images", "batches", "equal")


@dataclass
class StrategyConfig:
    """The rule by its name, which is a file of `strategies/`, and its own options.

    `weighting` sets w_k of the weighted mean sum(w_k x_k) / sum(w_k): the number of training
    images of the site, the number of batches it computed this round, or one. With
    `weight_digits` the sites round it to so many significant digits; 0: exact in a plain run,
    as the site's policy says in a secure one. `options`: the rule's; those that are not given get
    their defaults.
    """

    name: str = "fedavg"
    weighting: str = "images"
    weight_digits: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("strategy.name", self.name, RULES)
        check_choice("strategy.weighting", self.weighting, _WEIGHTINGS)
        check_range("strategy.weight_digits", self.weight_digits, 0, 9, example=2)
        self.options = asdict(self.rule.read(self.options))

    @property
    def keeps_models(self) -> bool:
        """Whether each site's model stays apart, so that the result is an ensemble."""
        return self.rule.needs is Need.OWN_MODEL

    @property
    def vote(self) -> str:
        """How the members of an ensemble are weighted; nothing of other rules."""
        return str(self.options["vote"]) if self.keeps_models else ""

    @property
    def in_proportion(self) -> bool:
        """Whether a site's batches of a round follow from its share of the images."""
        return self.options.get("proportional") is True

    @property
    def rule(self) -> Rule:
        """The row of the rule."""
        row: Rule = RULES[self.name]
        return row
