"""Keys, choices and values of earlier versions, and what each is called now."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from primia_flwr.errors import ConfigError

_OPTIONS = ("server_learning_rate", "beta_1", "beta_2", "tau", "trim_fraction", "num_malicious")
_SECURE = (
    *("clip", "overflow", "max_weight", "min_survivors", "max_colluding", "accept_two", "degree"),
    *("allow_other_survivors", "member_lists_since", "run"),
)
_KEYS: dict[str, str] = {
    "strategy.secure": "aggregation",
    "strategy.secure.enabled": "aggregation.name (secure or plain)",
    "strategy.secure.audit": "debug.verify_sums",
    **{f"strategy.secure.{key}": f"aggregation.{key}" for key in _SECURE},
    **{f"strategy.{key}": f"strategy.options.{key}" for key in _OPTIONS},
    "strategy.float_mean": "aggregation.float_mean",
    "strategy.cross_site": "debug.cross_site",
    "strategy.record_received": "debug.record_received",
    "allowed_verbs": "allowed_messages",
}
CHOICES: dict[str, str] = {
    "strategy=secagg": "aggregation=secure (the default)",
    "strategy=fedsearch": "search=pneumonia (or search=demo)",
}
_VALUES: dict[str, dict[str, str]] = {"baselines": {"alone": "local", "pooled": "centralised"}}


def check_overrides(overrides: Iterable[str]) -> None:
    """Refuse overrides of earlier versions, also where they list several choices.

    Raises
    ------
    ConfigError
        Naming the first key or choice and what it is called now.
    """
    for word in overrides:
        key, _, values = word.lstrip("+~").partition("=")
        _refuse(key, _KEYS.get(key))
        for choice in values.split(","):
            _refuse(f"{key}={choice}", CHOICES.get(f"{key}={choice}"))


def check_keys(content: Mapping[str, Any]) -> None:
    """Refuse a configuration with keys or values of earlier versions.

    Raises
    ------
    ConfigError
        Naming the first one and what it is called now.
    """
    for key, value in _entries(content):
        _refuse(key, _KEYS.get(key))
        for one in value if isinstance(value, list) else ():
            _refuse(f"{key}=[{one}]", _VALUES.get(key, {}).get(str(one)))


def sentence(old: str, new: str) -> str:
    """Return the one sentence for what has another name now."""
    return f"{old} is of an earlier version; expected {new} in its place"


def _refuse(old: str, new: str | None) -> None:
    if new:
        raise ConfigError(sentence(old, new))


def _entries(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return dotted keys and values, those inside a section before the section."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _entries(value, f"{name}.")
        yield name, value
