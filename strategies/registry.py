"""The closed table of strategies: a name in the configuration, and what it builds."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg, Krum, Strategy

from primia_flwr.config.checks import check_choice
from primia_flwr.config.experiment.federation import (
    NEEDS_SINGLE_UPDATES,
    FederationConfig,
    StrategyConfig,
)
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.messages.keys import ARRAYS, CONFIG, WEIGHT
from primia_flwr.messages.secure import report_layout, session_of
from primia_flwr.provisioning.identities import identity_keys
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.recording import Recording
from primia_flwr.secagg.payload.fixed_point import Overflow
from strategies.aggregators.aggregator import Aggregator
from strategies.aggregators.fixed_point import FixedPointAggregator
from strategies.aggregators.plain import PlainAggregator
from strategies.aggregators.secure.aggregator import SecureAggregator
from strategies.weighted_fedavg import (
    WeightedFedAdam,
    WeightedFedAvg,
    WeightedFedProx,
    WeightedFedYogi,
)

logger = logging.getLogger(__name__)

Factory = Callable[[StrategyConfig, FederationConfig, float], Strategy]

# All nodes that the round has selected are asked, so that sampling never waits: who takes part
# is decided before, by the roster.
_ALL_SELECTED: dict[str, Any] = {
    "fraction_train": 1.0,
    "fraction_evaluate": 1.0,
    "min_train_nodes": 1,
    "min_evaluate_nodes": 1,
    "min_available_nodes": 1,
    "weighted_by_key": WEIGHT,
    "arrayrecord_key": ARRAYS,
    "configrecord_key": CONFIG,
}


def build_strategy(
    cfg: StrategyConfig, federation: FederationConfig, *, proximal_mu: float
) -> Strategy:
    """Build the configured strategy.

    Parameters
    ----------
    cfg : StrategyConfig
        The rule and its numbers.
    federation : FederationConfig
        For the rules that need a certain number of sites.
    proximal_mu : float
        `training.proximal_mu`, the one place where the proximal term is set.

    Raises
    ------
    ConfigError
        If the name is unknown or the numbers do not fit each other.
    """
    check_choice("strategy.name", cfg.name, STRATEGIES)
    return STRATEGIES[cfg.name](cfg, federation, proximal_mu)


def build_aggregator(
    experiment: Experiment,
    *,
    model: ArrayMap,
    parameters: Iterable[str],
    num_classes: int,
    folder: Path | None = None,
    flower_run: int = 0,
) -> Aggregator:
    """Build the way in which the coordinator learns a round's result.

    Parameters
    ----------
    experiment : Experiment
        Its strategy says whether the coordinator sees each update, or sums only.
    model : mapping of name to array
        The initial global model's float arrays.
    parameters : iterable of str
        Which of them are parameters; the others are buffers of normalisation layers.
    num_classes : int
        What the sites' answers must fit.
    folder : Path, optional
        The run's, where a secure run writes the facts of its sums, and a recorded one what came.
    flower_run : int
        Flower's number of the run, which masks are bound to.

    Raises
    ------
    ConfigError
        As `build_strategy`.
    PrimiaError
        If secure aggregation lacks the identity of a site.
    """
    cfg, mu = experiment.strategy, experiment.training.proximal_mu
    strategy = build_strategy(cfg, experiment.federation, proximal_mu=mu)
    if cfg.secure.enabled:
        session = session_of(experiment, identity_keys(experiment))
        return SecureAggregator(
            strategy,
            model,
            parameters,
            experiment=experiment,
            session=session,
            num_classes=num_classes,
            folder=folder,
            flower_run=flower_run,
        )
    described: dict[str, Any] = {
        "num_classes": num_classes,
        "channels": experiment.data.channels,
        "keep_models": cfg.cross_site,
        "recording": Recording.of(experiment, folder),
    }
    if cfg.float_mean or cfg.name in NEEDS_SINGLE_UPDATES:
        return PlainAggregator(strategy, model, parameters, **described)
    layout = report_layout(experiment, sum(a.size for a in model.values()), num_classes)
    overflow: Overflow = "clip" if cfg.secure.overflow == "clip" else "decline"
    return FixedPointAggregator(
        strategy, model, parameters, layout=layout, overflow=overflow, **described
    )


def _fedavg(cfg: StrategyConfig, federation: FederationConfig, mu: float) -> Strategy:
    return WeightedFedAvg(**_ALL_SELECTED)


def _fedprox(cfg: StrategyConfig, federation: FederationConfig, mu: float) -> Strategy:
    return WeightedFedProx(**_ALL_SELECTED, proximal_mu=mu)


def _fedadam(cfg: StrategyConfig, federation: FederationConfig, mu: float) -> Strategy:
    return WeightedFedAdam(**_ALL_SELECTED, **_server_optimizer(cfg))


def _fedyogi(cfg: StrategyConfig, federation: FederationConfig, mu: float) -> Strategy:
    return WeightedFedYogi(**_ALL_SELECTED, **_server_optimizer(cfg))


def _server_optimizer(cfg: StrategyConfig) -> dict[str, Any]:
    return {
        "eta": cfg.server_learning_rate,
        "beta_1": cfg.beta_1,
        "beta_2": cfg.beta_2,
        "tau": cfg.tau,
    }


def _fedmedian(cfg: StrategyConfig, federation: FederationConfig, mu: float) -> Strategy:
    return FedMedian(**_ALL_SELECTED)


def _fedtrimmedavg(cfg: StrategyConfig, federation: FederationConfig, mu: float) -> Strategy:
    if int(cfg.trim_fraction * len(federation.sites)) == 0:
        logger.warning(
            "strategy.trim_fraction=%s cuts no one off among %d sites: fedtrimmedavg is the plain "
            "unweighted mean here",
            cfg.trim_fraction,
            len(federation.sites),
        )
    return FedTrimmedAvg(**_ALL_SELECTED, beta=cfg.trim_fraction)


def _krum(cfg: StrategyConfig, federation: FederationConfig, mu: float) -> Strategy:
    """Build Krum, which takes over one site's parameters unchanged and discards the others'.

    Normalisation buffers are not chosen with them: as with every rule they are the weighted mean
    of all sites' that passed the validation of replies (see `strategies.aggregators.plain`). Krum,
    the median and the trimmed mean therefore protect the parameters only; where sites may lie, use
    `model.norm=group` or `none`, which have no such buffers.

    Source: Blanchard et al. 2017, whose guarantee needs n >= 2 f + 3 updates (checked by
    `Experiment`).
    """
    return Krum(**_ALL_SELECTED, num_malicious_nodes=cfg.num_malicious)


STRATEGIES: dict[str, Factory] = {
    "fedavg": _fedavg,
    "fedprox": _fedprox,
    "fedadam": _fedadam,
    "fedyogi": _fedyogi,
    "fedmedian": _fedmedian,
    "fedtrimmedavg": _fedtrimmedavg,
    "krum": _krum,
}
