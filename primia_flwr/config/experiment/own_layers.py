"""What a run may not contain whose sites have layers of their own, and why."""

from typing import Any

from primia_flwr.errors import ConfigError


def _rules(experiment: Any) -> tuple[tuple[str, Any, Any, str], ...]:
    """Return keys, their values, what they may be, and why."""
    return (
        (
            "privacy.mode", experiment.privacy.mode, "none",
            "a private run is told nothing of its validation, and one unit's gradient would depend "
            "on layers that other units have trained without noise",
        ),
        (
            "search.population", experiment.search.population, 0,
            "a search ends in one model; search with model.shared=all",
        ),
        (
            "aggregation.name", experiment.aggregation.name, ("plain", "secure"),
            "a model that goes from site to site has no layers of one site",
        ),
    )  # fmt: skip


def check_own_layers(experiment: Any) -> None:
    """Refuse what does not go with `model.shared`.

    Raises
    ------
    ConfigError
        Naming the key, why it cannot be, and what to set.
    """
    shared = experiment.model.shared
    for key, value, needed, why in _rules(experiment) if experiment.model.keeps_layers else ():
        allowed = needed if isinstance(needed, tuple) else (needed,)
        if value not in allowed:
            raise ConfigError(
                f"{key}={value} with model.shared={shared}; expected "
                f"{' or '.join(map(str, allowed))}: {why}"
            )
