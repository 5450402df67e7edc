"""The search space: which keys of the experiment may vary, and between which values.

Written as a mapping from the experiment's own keys to intervals or lists of choices:

    training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    training.batch_size: {low: 8, high: 64, step: 8}
    training.betas: {choices: [[0.9, 0.999], [0.95, 0.999]]}

`primia train -m` and the search inside one federated run read it through `parse_space`. Optuna
is imported only where its distributions are asked for, because its import is slow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from primia_flwr.config.checks import nearest
from primia_flwr.config.search.dimensions import (
    Choices,
    Dimension,
    Interval,
    as_text,
    distribution,
    encoded,
    is_whole,
    to_dict,
)
from primia_flwr.config.search.space_keys import type_of, typed
from primia_flwr.errors import ConfigError
from primia_flwr.storage.printable import printable

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_INTERVAL_KEYS, _CHOICE_KEY = ("low", "high", "log", "step"), "choices"


@dataclass(frozen=True)
class Space:
    """A search space: `dimensions` by the experiment's keys, in the order of the YAML."""

    dimensions: Mapping[str, Dimension]

    @property
    def names(self) -> tuple[str, ...]:
        """The keys that may vary."""
        return tuple(self.dimensions)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distribution of every key; lists are written as JSON there."""
        return {name: distribution(dimension) for name, dimension in self.dimensions.items()}

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of the experiment for the parameters of an Optuna trial.

        Raises
        ------
        ConfigError
            If the parameters are not a point of this space.
        """
        values = {name: self._decoded(name, value) for name, value in params.items()}
        self.check(values)
        return values

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of an Optuna trial for values of the experiment.

        Raises
        ------
        ConfigError
            If the values are not a point of this space.
        """
        self.check(values)
        return {
            name: encoded(value) if isinstance(self.dimensions[name], Choices) else value
            for name, value in values.items()
        }

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse values that are not a point of this space.

        Raises
        ------
        ConfigError
            If a key is missing or not of the space, or a value lies outside.
        """
        for name in (*values, *self.dimensions):
            if name not in values or name not in self.dimensions:
                raise ConfigError(
                    f"{name} is {'missing' if name not in values else 'not in the search space'}; "
                    f"expected a value for each of {', '.join(self.names)}"
                )
        for name, value in values.items():
            if not self.dimensions[name].contains(value):
                raise ConfigError(
                    f"{name}={as_text(value)} lies outside the search space; expected "
                    f"{self.dimensions[name].describe()}"
                )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the mapping that `parse_space` reads back as this space."""
        return {name: to_dict(dimension) for name, dimension in self.dimensions.items()}

    def _decoded(self, name: str, value: Any) -> Any:
        dimension = self.dimensions.get(name)
        if isinstance(dimension, Choices):
            known = {encoded(choice): choice for choice in dimension.values}
            return known.get(encoded(value), value)
        return value


def parse_space(mapping: Mapping[str, Any] | DictConfig) -> Space:
    """Read a search space and check it against the experiment's keys and types.

    Parameters
    ----------
    mapping : mapping
        From keys of the experiment, dotted or nested, to `{low, high[, log][, step]}` or
        `{choices}`.

    Raises
    ------
    ConfigError
        If the space is empty or contradicts itself, or a key or a value is none of the
        experiment's.
    """
    plain = OmegaConf.to_container(mapping) if isinstance(mapping, DictConfig) else mapping
    if not isinstance(plain, Mapping) or not plain:
        raise ConfigError(
            "space is empty; expected at least one key of the experiment with an interval or "
            "choices, e.g. training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}"
        )
    dimensions: dict[str, Dimension] = {}
    for name, spec in _flattened(plain):
        if name in dimensions:
            raise ConfigError(f"space.{name} is given twice; expected it once; delete one")
        dimensions[name] = _parse_dimension(name, spec)
    return Space(dimensions)


def _flattened(mapping: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Return (dotted key, specification) pairs of a mapping that may be nested."""
    found = list[tuple[str, Mapping[str, Any]]]()
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"space.{printable(name, limit=80)}={as_text(value)}; expected {{low, high}} or "
                "{choices}, e.g. {low: 0, high: 0.5} or {choices: [0, 0.5]}"
            )
        if not value or any(k in (*_INTERVAL_KEYS, _CHOICE_KEY) for k in value):
            found.append((name, value))
        else:
            found.extend(_flattened(value, f"{name}."))
    return found


def _parse_dimension(name: str, spec: Mapping[str, Any]) -> Dimension:
    kind = type_of(name)
    for key in spec:
        if key not in (*_INTERVAL_KEYS, _CHOICE_KEY):
            raise ConfigError(
                f"space.{name}.{printable(str(key), limit=80)} is no key of a search space; "
                "expected low, high, log, step or choices"
                f"{nearest(str(key), (*_INTERVAL_KEYS, _CHOICE_KEY))}"
            )
    if _CHOICE_KEY in spec and len(spec) > 1:
        raise ConfigError(
            f"space.{name} has both choices and {', '.join(k for k in spec if k != _CHOICE_KEY)}; "
            "expected either an interval or choices; delete one"
        )
    return _choices(name, spec[_CHOICE_KEY]) if _CHOICE_KEY in spec else _interval(name, spec, kind)


def _choices(name: str, values: object) -> Choices:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(
            f"space.{name}.choices={as_text(values)}; expected a list of at least one value, "
            "e.g. [0, 0.5]"
        )
    found = tuple(typed(name, value) for value in values)
    texts = [as_text(value) for value in found]
    doubled = next((text for text in texts if texts.count(text) > 1), None)
    if doubled is not None:
        raise ConfigError(
            f"space.{name}.choices has {doubled} twice; expected different values; delete one"
        )
    return Choices(found)


def _interval(name: str, spec: Mapping[str, Any], kind: Any) -> Interval:
    if kind not in (int, float):
        raise ConfigError(
            f"space.{name}: {name} is not a number; expected {{choices: [...]}} with its values"
        )
    for key in ("low", "high"):
        if key not in spec:
            raise ConfigError(f"space.{name}.{key} is missing; expected both low and high")
    ends = {k: _number(name, k, spec[k], kind) for k in ("low", "high")}
    step = spec.get("step")
    interval = Interval(
        low=ends["low"],
        high=ends["high"],
        log=_boolean(name, spec.get("log", False)),
        step=None if step is None else _number(name, "step", step, kind),
        integer=kind is int,
    )
    _check_interval(name, interval)
    return interval


def _check_interval(name: str, interval: Interval) -> None:
    low, high, step = interval.low, interval.high, interval.step
    if low >= high:
        raise ConfigError(
            f"space.{name}: low={low} and high={high}; expected low below high; swap them, or set "
            f"{name}={low} for good"
        )
    if interval.log and low <= 0:
        raise ConfigError(
            f"space.{name}: log=true with low={low}; expected a low above 0; raise it, or log=false"
        )
    if interval.log and step is not None:
        raise ConfigError(
            f"space.{name}: log=true with step={step}; expected one of them; delete step"
        )
    if step is not None and (step <= 0 or not is_whole((high - low) / step)):
        raise ConfigError(
            f"space.{name}: step={step} from low={low} never meets high={high}; expected a step "
            "above 0 that divides high - low"
        )


def _number(name: str, key: str, value: object, kind: type) -> float:
    wanted = "an integer" if kind is int else "a number"
    good = isinstance(value, int) if kind is int else isinstance(value, int | float)
    if good and not isinstance(value, bool) and math.isfinite(float(str(value))):
        return kind(value)  # type: ignore[no-any-return]
    hint = "; YAML reads 1e-4 as text, 1.0e-4 as a number" if isinstance(value, str) else ""
    raise ConfigError(f"space.{name}.{key}={as_text(value)}; expected {wanted}{hint}")


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"space.{name}.log={as_text(value)}; expected true or false")
