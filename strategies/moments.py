"""A server optimiser's moments, as arrays that a checkpoint keeps."""

from flwr.serverapp.strategy import Strategy

from primia_flwr.federation.checkpoint import ArrayMap

_MOMENTS = ("m_t", "v_t")


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
