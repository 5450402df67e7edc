"""What a run may not contain whose sites encrypt their models for each other, and why."""

from typing import Any

from primia_flwr.errors import ConfigError

_WHY = "in a sealed relay no site tells the coordinator a number about its images"


def check_sealed(experiment: Any) -> None:
    """Refuse what does not go with `aggregation.sealed`.

    Raises
    ------
    ConfigError
        Naming the key, why it cannot be, and what to set.
    """
    if not experiment.aggregation.sealed:
        return
    training, stop = experiment.training, "training.early_stopping"
    for key, value, needed in (
        ("data.normalisation.kind", experiment.data.normalisation.kind, "fixed"),
        ("training.class_weights", training.class_weights, "none"),
        ("data.volumes.fingerprint", experiment.data.volumes.fingerprint, False),
        (f"{stop}.federation.patience", training.early_stopping.federation.patience, 0),
        (f"{stop}.site.retire_after", training.early_stopping.site.retire_after, 0),
    ):
        if value != needed:
            raise ConfigError(
                f"{key}={_plain(value)} with aggregation.sealed=true; expected {_plain(needed)}: "
                f"{_WHY}"
            )
    if experiment.aggregation.withheld and experiment.baselines:
        raise ConfigError(
            f"baselines=[{','.join(experiment.baselines)}] with aggregation.reveal=never; expected "
            "[]: the coordinator gets no model that they could be compared with"
        )


def _plain(value: object) -> str:
    """Write a value as in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)
