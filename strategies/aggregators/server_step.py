"""What a Flower strategy does with a round's replies, checked; and what it remembers."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from flwr.app import Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from primia_flwr.config.rules import Need
from primia_flwr.errors import ConfigError, DivergenceError, FederationError
from primia_flwr.messages.held import held, values_of
from primia_flwr.messages.keys import ARRAYS, METRICS, WEIGHT
from primia_flwr.messages.secure import unflatten
from primia_flwr.runs.checkpoint import ArrayMap

_MOMENTS = ("m_t", "v_t")


def aggregate(strategy: Strategy, server_round: int, replies: Sequence[Message]) -> ArrayMap:
    """Return the parameters that a strategy makes of replies.

    Raises
    ------
    FederationError
        If it makes none.
    """
    arrays, _ = strategy.aggregate_train(server_round, replies)
    if arrays is None:
        raise FederationError(f"round {server_round}: the strategy returned no model")
    return values_of(arrays)


def check_needs(needs: Need) -> None:
    """Refuse a rule that would take the mean, which is one reply, for a site's update.

    Raises
    ------
    ConfigError
        If the rule declares that it needs anything but the mean.
    """
    if needs is not Need.MEAN:
        raise ConfigError(
            f"a rule that needs {needs.value} is fed {Need.MEAN.value} alone; expected "
            "needs=Need.MEAN in its RULE, or aggregation=plain"
        )


def move_by_mean(
    strategy: Strategy, server_round: int, model: ArrayMap, mean: Any, parameters: Collection[str]
) -> ArrayMap:
    """Let a strategy move the model by the mean update; buffers move by the mean itself.

    Parameters
    ----------
    strategy : Strategy
        Given one reply, the mean model: a rule that passes `check_needs`.
    server_round : int
        Named in errors.
    model : mapping of name to array
        The round's model.
    mean : ndarray
        (entries,) float32, over the arrays of the model in its order.
    parameters : collection of str
        Which arrays are parameters; the others are buffers.

    Raises
    ------
    DivergenceError
        If the result is not finite.
    """
    update = unflatten(mean, model)
    moved = {name: model[name] + update[name] for name in model}
    own = held({name: array for name, array in moved.items() if name in parameters})
    metrics = MetricRecord({WEIGHT: 1.0})
    reply = Message(RecordDict({ARRAYS: own, METRICS: metrics}), 0, MessageType.TRAIN)
    stepped = aggregate(strategy, server_round, [reply])
    result = {
        name: np.asarray(stepped.get(name, moved[name]), dtype=model[name].dtype) for name in model
    }
    for name, array in result.items():
        if name.endswith("running_var"):
            np.maximum(array, 0, out=array)  # a variance of 0 may be off by the fixed point
    check_finite(server_round, result)
    return result


def check_finite(server_round: int, model: ArrayMap) -> None:
    """Refuse a model that a strategy has driven out of range.

    Raises
    ------
    DivergenceError
        Naming the first array with NaN or infinity.
    """
    for name, array in model.items():
        if not np.isfinite(array).all():
            raise DivergenceError(
                f"round {server_round}: the strategy made {name!r} NaN or infinite; expected "
                "finite numbers; lower strategy.options.server_learning_rate"
            )


def moments(strategy: Strategy) -> ArrayMap:
    """Return the moments, e.g. `m_t/fc.weight`; nothing for a strategy without."""
    return {
        f"{moment}/{name}": array
        for moment in _MOMENTS
        for name, array in (getattr(strategy, moment, None) or {}).items()
    }


def load_moments(strategy: Strategy, state: ArrayMap) -> None:
    """Put back what `moments` returned; nothing begins anew."""
    for moment in _MOMENTS:
        prefix = f"{moment}/"
        named = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if hasattr(strategy, moment):
            setattr(strategy, moment, named or None)
