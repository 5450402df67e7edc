"""What a Flower strategy does with a round's replies, checked; and what it remembers."""

from collections.abc import Sequence

import numpy as np
from flwr.app import Message
from flwr.serverapp.strategy import Strategy

from primia_flwr.errors import FederationError
from primia_flwr.federation.checkpoint import ArrayMap

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
    return {name: array.numpy() for name, array in arrays.items()}


def check_finite(server_round: int, model: ArrayMap) -> None:
    """Refuse a model that a strategy has driven out of range.

    Raises
    ------
    FederationError
        Naming the first array with NaN or infinity.
    """
    for name, array in model.items():
        if not np.isfinite(array).all():
            raise FederationError(
                f"round {server_round}: the strategy made {name!r} NaN or infinite; expected "
                "finite numbers; lower strategy.server_learning_rate"
            )


def moments(strategy: Strategy) -> ArrayMap:
    """Return the moments, e.g. `m_t/fc.weight`; nothing for a strategy without."""
    return {
        f"{moment}/{name}": array
        for moment in _MOMENTS
        for name, array in (getattr(strategy, moment, None) or {}).items()
    }


def load_moments(strategy: Strategy, state: ArrayMap) -> None:
    """Put back what `moments` returned."""
    for moment in _MOMENTS:
        prefix = f"{moment}/"
        named = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if named:
            setattr(strategy, moment, named)
