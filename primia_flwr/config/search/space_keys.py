"""Which keys of the experiment a search may vary, and of which type their values are."""

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from primia_flwr.config.checks import nearest
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.search.dimensions import as_text
from primia_flwr.errors import ConfigError
from primia_flwr.storage.printable import printable

# They say what is measured, on what and where: a score of one value says nothing of another's.
FIXED = (
    *("name", "seed", "output_dir", "resume", "dry_run", "quiet", "baselines"),
    *("deployment", "tracking", "privacy", "client", "aggregation", "debug", "training.device"),
    *("data.layout", "data.root", "data.manifest", "data.split", "data.classes"),
    *("data.patient_pattern", "data.patient_column", "data.test_fraction", "data.val_fraction"),
    *("data.skip_unreadable", "data.workers", "data.cache_dir", "data.partition", "data.synthetic"),
    *("federation.sites", "federation.min_sites", "training.early_stopping.federation.monitor"),
    "search",
)


def type_of(name: str) -> Any:
    """Return the type of a key of the experiment.

    Raises
    ------
    ConfigError
        If it is no key, a whole section, or one that a search must not change.
    """
    kind: Any = Experiment
    known = _leaves(Experiment)
    for part in name.split("."):
        kind = get_type_hints(kind).get(part) if is_dataclass(kind) else None
    if name not in known:
        what, shown = "a section" if is_dataclass(kind) else "no key", printable(name, limit=80)
        raise ConfigError(
            f"space.{shown}: {shown} is {what} of the experiment; expected a key such as "
            f"training.learning_rate{nearest(name, known)}; see them with primia train --cfg job"
        )
    if any(name == fixed or name.startswith(f"{fixed}.") for fixed in FIXED):
        raise ConfigError(
            f"space.{name}: {name} decides what is measured or where, so its values cannot be "
            f"compared; expected a key of the training; set it once, as {name}=<value>"
        )
    return kind


def typed(name: str, value: object) -> Any:
    """Return a value as the experiment's schema converts it.

    Raises
    ------
    ConfigError
        If the key cannot hold it.
    """
    *sections, key = name.split(".")
    kind: Any = Experiment
    for section in sections:
        kind = get_type_hints(kind)[section]
    scheme = OmegaConf.structured(kind)
    try:
        OmegaConf.update(scheme, key, value, merge=False)
        node = OmegaConf.select(scheme, key)
    except OmegaConfBaseException as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"space.{name}.choices: {as_text(value)} is no value of {name} ({reason}); expected "
            "its type; see it with primia train --cfg job"
        ) from None
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


@cache
def _leaves(kind: Any, prefix: str = "") -> tuple[str, ...]:
    """Return the dotted names of all values in a section and below it."""
    hints, names = get_type_hints(kind), list[str]()
    for field in fields(kind):
        names += (
            _leaves(hints[field.name], f"{prefix}{field.name}.")
            if is_dataclass(hints[field.name])
            else (f"{prefix}{field.name}",)
        )
    return tuple(names)
