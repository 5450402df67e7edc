"""Which keys of the experiment a search may vary, and of which type their values are."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import product
from typing import Any, cast, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from primia_flwr.config import renamed
from primia_flwr.config.checks import nearest
from primia_flwr.config.experiment.schema import Experiment
from primia_flwr.config.rows import RULES
from primia_flwr.config.rules import as_type_of
from primia_flwr.config.search.dimensions import as_text
from primia_flwr.errors import ConfigError
from primia_flwr.storage.printable import printable

# They say what is measured, on what and where: a score of one value says nothing of another's.
_FIXED = (
    *("name", "seed", "output_dir", "resume", "dry_run", "quiet", "baselines"),
    *("deployment", "tracking", "privacy", "client", "aggregation", "debug", "training.device"),
    *("data.layout", "data.root", "data.manifest", "data.split", "data.classes"),
    *("data.patient_pattern", "data.patient_column", "data.test_fraction", "data.val_fraction"),
    *("data.columns", "data.uncertain", "data.select"),
    *("data.skip_unreadable", "data.workers", "data.cache_dir", "data.partition", "data.synthetic"),
    *("federation.sites", "federation.min_sites", "training.early_stopping.federation.monitor"),
    "search",
)
_OPTIONS = "strategy.options."


def type_of(name: str) -> Any:
    """Return the type of a key of the experiment.

    Raises
    ------
    ConfigError
        If it is no key, a whole section, or one that a search must not change.
    """
    renamed.check_overrides([name])
    options, kind = _rule_options(), cast(Any, Experiment)
    if name in options:
        return type(options[name])
    known = [key for key in _leaves(Experiment) if key != "strategy.options"] + list(options)
    for part in name.split("."):
        kind = get_type_hints(kind).get(part) if is_dataclass(kind) else None
    if name not in known:
        what, shown = "a section" if is_dataclass(kind) else "no key", printable(name, limit=80)
        raise ConfigError(
            f"space.{shown}: {shown} is {what} of the experiment; expected a key such as "
            f"training.learning_rate{nearest(name, known)}; see them with primia train --cfg job"
        )
    if any(name == fixed or name.startswith(f"{fixed}.") for fixed in _FIXED):
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
    options = _rule_options()
    if name in options:
        found = as_type_of(options[name], value)
        if found is None:
            raise ConfigError(
                f"space.{name}.choices: {as_text(value)} is no value of {name}; expected its type, "
                f"e.g. {options[name]}"
            )
        return found
    return _by_schema(name, value)


def _by_schema(name: str, value: object) -> Any:
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


def _rule_options() -> dict[str, Any]:
    """Return the default of each option of any rule, by its key in the experiment."""
    return {
        f"{_OPTIONS}{key}": default
        for rule in RULES.values()
        for key, default in rule.defaults().items()
    }


def check_options(names: Iterable[str], experiment: Experiment, rules: Iterable[str]) -> None:
    """Refuse options of which a rule that a search tries knows nothing.

    Raises
    ------
    ConfigError
        Naming the first such option.
    """
    keys = (name.removeprefix(_OPTIONS) for name in names if name.startswith(_OPTIONS))
    wanted = [*keys, *experiment.strategy.options]
    for rule, option in product(rules, wanted):
        known = RULES[rule].defaults()
        if option not in known:
            raise ConfigError(
                f"space: {_OPTIONS}{option} with strategy.name={rule}; expected "
                f"{', '.join(known) or 'no options, for this rule has none'}; choose a rule with "
                "this option, or search without it"
            )


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
