"""From an experiment to its parts: the rule's row, what feeds it, and the rounds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from flwr.serverapp.strategy import Strategy

from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rules import Need
from primia_flwr.config.search.searched import with_values
from primia_flwr.flower.roster_grid import RosterGrid
from primia_flwr.messages.secure import report_layout, session_of
from primia_flwr.provisioning.identities import identity_keys
from primia_flwr.runs.checkpoint import ArrayMap
from primia_flwr.runs.recording import Recording
from strategies.aggregators.aggregator import Aggregator
from strategies.aggregators.asynchronous.aggregator import AsynchronousAggregator
from strategies.aggregators.asynchronous.closed import ClosedAsynchronous
from strategies.aggregators.buffered.aggregator import BufferedAggregator
from strategies.aggregators.ensemble import EnsembleAggregator
from strategies.aggregators.fixed_point import FixedPointAggregator
from strategies.aggregators.plain import PlainAggregator
from strategies.aggregators.relay.aggregator import RelayAggregator
from strategies.aggregators.relay.closed import ClosedRelay
from strategies.aggregators.relay.sealed import SealedRelay
from strategies.aggregators.secure.aggregator import SecureAggregator
from strategies.aggregators.sent_vector import sent_by
from strategies.fedsearch.loop import SearchLoop
from strategies.rounds.config import LoopConfig
from strategies.rounds.loop import RoundLoop
from strategies.rounds.state import RunState


def build_strategy(experiment: Experiment) -> Strategy:
    """Build the configured rule as a Flower strategy."""
    rule = experiment.strategy.rule
    built: Strategy = rule.build(rule.read(experiment.strategy.options), experiment)
    return built


def build_aggregator(
    experiment: Experiment,
    *,
    model: ArrayMap,
    parameters: Iterable[str],
    outputs: int,
    folder: Path | None = None,
    flower_run: int = 0,
) -> Aggregator:
    """Build the way in which the coordinator learns a round's result.

    Only a rule that declares `Need.MEAN` is ever fed one reply, the mean; every other is fed each
    site's update, or refused by the experiment's own checks.

    Parameters
    ----------
    experiment : Experiment
        Its aggregation says whether the coordinator sees each update, or sums only.
    model : mapping of name to array
        The initial global model's float arrays, without those that are not trained.
    parameters : iterable of str
        Which of them are parameters; the others are buffers of normalisation layers.
    outputs : int
        What the sites' answers must fit.
    folder : Path, optional
        The run's, where a secure run writes the facts of its sums, and a recorded one what came.
    flower_run : int
        Flower's number of the run, which masks are bound to.

    Raises
    ------
    PrimiaError
        If the aggregation cannot give what the rule needs, or lacks the identity of a site.
    """
    strategy, names = build_strategy(experiment), frozenset(parameters)
    sent = sent_by(experiment, dict(model), names)
    if experiment.aggregation.secure:
        build = partial(_secure(experiment), folder=folder, flower_run=flower_run)
    else:
        build = partial(
            _in_the_clear(experiment, model, outputs, folder),
            task=experiment.task,
            channels=experiment.data.channels,
            keep_models=experiment.debug.cross_site,
            volumes=experiment.data.volumes.fingerprint,
            recording=Recording.of(experiment, folder),
        )
    return build(strategy, model, names, outputs=outputs, sent=sent)


def _secure(experiment: Experiment) -> Callable[..., Aggregator]:
    """Return what learns sums only."""
    return partial(
        BufferedAggregator if experiment.aggregation.buffered else SecureAggregator,
        needs=experiment.strategy.rule.needs,
        experiment=experiment,
        session=session_of(experiment, identity_keys(experiment)),
    )


def _in_the_clear(
    experiment: Experiment, model: ArrayMap, outputs: int, folder: Path | None
) -> Callable[..., Aggregator]:
    """Return what is sent each update, or models."""
    aggregation, needs = experiment.aggregation, experiment.strategy.rule.needs
    if experiment.strategy.keeps_models:
        return EnsembleAggregator
    if aggregation.relayed:
        return _relay(experiment, folder)
    if aggregation.float_mean or needs is not Need.MEAN:
        return PlainAggregator
    kind = _asynchronous(experiment, folder) if aggregation.asynchronous else FixedPointAggregator
    return partial(
        kind,
        needs=needs,
        layout=report_layout(experiment, sum(a.size for a in model.values()), outputs),
        overflow="clip" if aggregation.overflow == "clip" else "decline",
    )


def _asynchronous(experiment: Experiment, folder: Path | None) -> Callable[..., Aggregator]:
    """Return what takes the updates that are ready."""
    build = partial(AsynchronousAggregator, experiment=experiment, folder=folder)
    if not experiment.reports_nothing:
        return build
    session = session_of(experiment, identity_keys(experiment))
    return partial(ClosedAsynchronous, experiment=experiment, folder=folder, session=session)


def _relay(experiment: Experiment, folder: Path | None) -> Callable[..., Aggregator]:
    """Return what sends one model from site to site, as open as the experiment lets it be."""
    if not experiment.reports_nothing:
        return partial(RelayAggregator, experiment=experiment, folder=folder)
    closed = SealedRelay if experiment.aggregation.sealed else ClosedRelay
    session = session_of(experiment, identity_keys(experiment))
    return partial(closed, experiment=experiment, folder=folder, session=session)


@dataclass(frozen=True)
class Rounds:
    """How the rounds of a run ended, of which experiment, and what a search found."""

    state: RunState
    experiment: Experiment
    found: dict[str, object]


def run_rounds(
    experiment: Experiment,
    grid: RosterGrid,
    aggregator: Aggregator,
    folder: Path,
    model: ArrayMap,
    *,
    classes: Sequence[str],
    resume: bool,
) -> Rounds:
    """Run the rounds of an experiment; of a search, those of its configurations.

    `model`: the first weights. `classes`: their names. `resume`: go on from the
    checkpoints in the folder.

    Raises
    ------
    PrimiaError
        If the run cannot go on.
    """
    if not experiment.search.enabled:
        cfg = replace(LoopConfig.of(experiment), classes=tuple(classes))
        loop = RoundLoop(cfg, grid, aggregator, folder)
        return Rounds(loop.run(model, resume=resume), experiment, {})
    chosen = SearchLoop(experiment, grid, aggregator, folder, classes=classes).run(
        model, resume=resume
    )
    found: dict[str, object] = {"configuration": chosen.number, "values": chosen.values}
    return Rounds(chosen.state, with_values(experiment, chosen.values), found)
