"""Steps that are corrected by how each site's gradients differ from the mean (Karimireddy 2020).

A site adds c - c_k to every gradient, c being the mean of all sites' control variates c_k. After K
steps of rates that add up to R, from x to y, its own becomes c_k - c + (x - y) / R; it sends
y - x and the change of c_k, as two vectors in one sum. The sites' drift apart, which local steps on
unlike images cause, cancels out.

Source: Karimireddy et al. 2020, SCAFFOLD, Algorithm 1 with option II and a server's step of 1.
"""

from typing import TYPE_CHECKING, Any

from primia_flwr.config.rules import Need, NoOptions, Rule
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy

_STEPS = "a control variate is the mean of plain gradients"


def _build(options: NoOptions, experiment: Any) -> "Strategy":
    from strategies.averaging.weighted_fedavg import ALL_SELECTED, WeightedFedAvg

    return WeightedFedAvg(**ALL_SELECTED)


def _needed(experiment: Any) -> tuple[tuple[str, Any, Any, str], ...]:
    """Return keys, their values, what they must be, and why."""
    training, aggregation = experiment.training, experiment.aggregation
    alike = "the mean of the control variates is over all sites alike"
    return (
        ("training.optimizer", training.optimizer, "sgd", _STEPS),
        ("training.momentum", training.momentum, 0, _STEPS),
        ("training.gradient_clip", training.gradient_clip, 0, _STEPS),
        ("training.proximal_mu", training.proximal_mu, 0, _STEPS),
        ("training.early_stopping.site.patience", training.early_stopping.site.patience, 0, _STEPS),
        ("strategy.weighting", experiment.strategy.weighting, "equal", alike),
        ("aggregation.share", aggregation.share, 1, "two whole vectors travel"),
        ("aggregation.float_mean", aggregation.float_mean, False, "it knows models only"),
        (
            "privacy.mode", experiment.privacy.mode, "none",
            "a control variate holds a site's own gradients of all rounds, which no clipping "
            "bounds and no noise hides",
        ),
    )  # fmt: skip


def _check(options: NoOptions, experiment: Any) -> None:
    for key, value, needed, reason in _needed(experiment):
        if value != needed:
            expected = str(needed).lower() if isinstance(needed, bool) else needed
            raise ConfigError(
                f"{key}={value} with strategy.name=scaffold; expected {expected}: {reason}"
            )


RULE = Rule(_build, needs=Need.MEAN, check=_check, variates=True)
