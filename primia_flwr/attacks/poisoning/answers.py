"""What a rule makes of the sites' models: the product's own rules, fed as a coordinator feeds them.

The rules are built from their rows, as the experiment names them. `secure` is the mean of secure
aggregation with `overflow=clip`, whose numbers are those of a masked sum bit for bit.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from flwr.app import Message, MessageType, Metadata, MetricRecord, RecordDict

from primia_flwr.config.experiment.aggregation import AggregationConfig
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.experiment.strategy import StrategyConfig
from primia_flwr.errors import ConfigError
from primia_flwr.messages import secure as wire
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import ARRAYS, METRICS, WEIGHT

RULES = ("fedavg", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan", "secure")
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Sent:
    """A site's model as it sends it, and its weight."""

    arrays: Arrays
    weight: int


@dataclass(frozen=True)
class Answer:
    """One rule; `experiment` names it, with options for the number of liars."""

    name: str
    experiment: Experiment
    parameters: frozenset[str]

    def __call__(self, before: Arrays, sent: Sequence[Sent]) -> Arrays:
        """Return the next model: parameters by the rule, other arrays by the weighted mean."""
        if self.name == "secure":
            return self._by_sum(before, sent)
        rule = self.experiment.strategy.rule
        strategy = rule.build(rule.read(self.experiment.strategy.options), self.experiment)
        with _without_flowers_log():
            arrays, _ = strategy.aggregate_train(1, [self._reply(one) for one in sent])
        assert arrays is not None
        chosen = values_of(arrays)
        weights = [one.weight for one in sent]
        return {
            name: chosen[name] if name in chosen else _mean([s.arrays[name] for s in sent], weights)
            for name in before
        }

    def _reply(self, sent: Sent) -> Message:
        own = {name: array for name, array in sent.arrays.items() if name in self.parameters}
        metrics = MetricRecord({WEIGHT: float(sent.weight)})
        content = RecordDict({ARRAYS: held(own), METRICS: metrics})
        return cast(Message, cast(Any, Message)(content=content, metadata=_of_no_run()))

    def _by_sum(self, before: Arrays, sent: Sequence[Sent]) -> Arrays:
        heaviest = max(one.weight for one in sent)
        way = replace(self.experiment.aggregation, max_weight=heaviest)
        experiment = replace(self.experiment, aggregation=way)
        layout = wire.report_layout(experiment, sum(a.size for a in before.values()), 2)
        total = np.zeros(layout.entries, np.uint32)
        for one in sent:
            change = wire.difference(one.arrays, before)
            total += layout.encode(change, {WEIGHT: (one.weight,)}, overflow="clip")[0]
        mean: Any = layout.mean_of([total], sum(one.weight for one in sent))
        update = wire.unflatten(mean, before)
        return {name: before[name] + update[name] for name in before}


def answer_of(
    name: str, experiment: Experiment, parameters: frozenset[str], *, liars: int, clip: float
) -> Answer:
    """Return a rule that expects so many liars.

    Parameters
    ----------
    name : str
        One of `RULES`.
    experiment : Experiment
        In which all sites answer every round.
    parameters : frozenset of str
        Which arrays are parameters.
    liars : int
        f of the rules that ask for it.
    clip : float
        Of `secure`: the largest magnitude of a number of an update.

    Raises
    ------
    ConfigError
        If the rule needs more sites than there are.
    """
    sites = len(experiment.federation.sites)
    options: Mapping[str, Mapping[str, float]] = {
        "krum": {"num_malicious": liars},
        "multikrum": {"num_malicious": liars, "num_selected": max(1, sites - liars - 2)},
        "bulyan": {"num_malicious": liars},
        "fedtrimmedavg": {"trim_fraction": min(0.49, (liars + 0.5) / sites)},
    }
    rule = StrategyConfig(
        name="fedavg" if name == "secure" else name, options=dict(options.get(name, {}))
    )
    way = AggregationConfig(name="plain", clip=clip, overflow="clip")
    return Answer(name, replace(experiment, strategy=rule, aggregation=way), parameters)


def fitting(
    names: Sequence[str], experiment: Experiment, parameters: frozenset[str], **facts: Any
) -> tuple[list[Answer], dict[str, str]]:
    """Return the rules that the number of sites allows, and of the others why not."""
    answers, refused = [], dict[str, str]()
    for name in names:
        try:
            answers.append(answer_of(name, experiment, parameters, **facts))
        except ConfigError as error:
            refused[name] = str(error)
    return answers, refused


def _of_no_run() -> Metadata:
    """Return what Flower wants to know of a message, which here goes nowhere."""
    return Metadata(
        run_id=0,
        message_id="",
        src_node_id=0,
        dst_node_id=0,
        reply_to_message_id="",
        group_id="",
        created_at=0.0,
        ttl=1.0,
        message_type=MessageType.TRAIN,
    )


def _mean(arrays: Sequence[npt.NDArray[Any]], weights: Sequence[int]) -> npt.NDArray[Any]:
    return np.asarray(np.average(np.stack(arrays), axis=0, weights=weights), arrays[0].dtype)


@contextmanager
def _without_flowers_log() -> Iterator[None]:
    """Flower tells of every round that a rule sees."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
