"""A composed configuration as its checked dataclass, and one sentence for each mistake in it."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from primia_flwr.config import keys, renamed
from primia_flwr.config.checks import nearest
from primia_flwr.errors import ConfigError
from primia_flwr.storage.printable import printable

if TYPE_CHECKING:
    from hydra.errors import MissingConfigException

_T = TypeVar("_T")
_CONFLICT = re.compile(r"^(\S+ appears more than once)")


def parse(schema: type[_T], cfg: DictConfig) -> _T:
    """Turn a composed configuration into its checked dataclass.

    Raises
    ------
    ConfigError
        If a key is unknown, has the wrong type, is missing or is out of range.
    """
    try:
        merged = OmegaConf.merge(_structured(cast(Any, schema)), cfg)
        return cast(_T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(_explain_value(error, schema, cfg)) from None


@cache
def _structured(schema: type[Any]) -> DictConfig:
    """Return a dataclass as OmegaConf has it, which `merge` copies."""
    return cast(DictConfig, OmegaConf.structured(schema))


def explain(error: Exception) -> str:
    """Return one sentence for an error of composing: key or choice, expectation, remedy."""
    from hydra.errors import HydraException, MissingConfigException

    cause = error.__cause__  # under a tracer OmegaConf's errors are causes of themselves
    if isinstance(error, HydraException) and isinstance(cause, OmegaConfBaseException):
        return explain(cause)
    if isinstance(error, MissingConfigException):
        return _explain_missing_choice(error)
    if isinstance(error, yaml.YAMLError):
        return f"{_place(error)} is not valid YAML; expected key: value; correct that line"
    key = getattr(error, "full_key", None) or ""
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is missing; give it as {key}=<value>"
    if isinstance(error, InterpolationResolutionError):
        return _unresolved(key, str(error))
    known = key or _quoted(str(error))
    if isinstance(error, ConfigKeyError | AttributeError):
        return f"unknown key {known}; --help=all lists every key"
    if found := _CONFLICT.search(str(error)):
        return f"{found.group(1)}; expected one value of each key; --help=all lists every key"
    return f"{known} cannot be used with the rest; --help=all lists every key and its default"


def _explain_value(error: OmegaConfBaseException, schema: type[Any], cfg: DictConfig) -> str:
    """Return one sentence for what a dataclass does not take."""
    key = getattr(error, "full_key", None) or ""
    kind = keys.kind_of(schema, re.sub(r"\[(\d+)\]", r".\1", key)) if key else None
    if isinstance(error, ConfigKeyError | AttributeError) and key and kind is None:
        return keys.unknown(key, schema)
    if kind is None or isinstance(error, MissingMandatoryValue | InterpolationResolutionError):
        return explain(error)
    value = OmegaConf.to_container(cfg) if isinstance(cfg, DictConfig) else cfg
    for part in re.findall(r"[^.\[\]]+", key):
        value = value[int(part)] if isinstance(value, list) else cast(dict[str, Any], value)[part]
    shown = "null" if value is None else printable(str(value), limit=200)
    return f"{key}={shown}; expected {keys.expected(kind)}"


def _unresolved(key: str, text: str) -> str:
    named = _quoted(text)
    return f"{key} refers to {named}, which is not there; expected a value, or a name that exists"


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    name = str(getattr(mark, "name", "")).removeprefix("file://")
    line = f"line {mark.line + 1}" if mark else "a line"
    return f"{name}: {line}" if name.endswith((".yaml", ".yml")) else line


def _explain_missing_choice(error: "MissingConfigException") -> str:
    """Name the group, the choice that is not there, those that are, and the nearest."""
    asked = error.missing_cfg_file or _quoted(str(error))
    group, _, choice = asked.rpartition("/")
    if new := renamed.CHOICES.get(f"{group}={choice}"):
        return renamed.sentence(f"{group}={choice}", new)
    options = list(error.options or [])
    if not group or not options:
        return f"no configuration {asked!r} in conf/; --help=all lists the choices"
    made = "; primia provision makes others, for the folder in which it runs"
    told = made if group == "deployment" else nearest(choice, options)
    return f"{group}={choice}; expected one of {', '.join(options)}{told}"


def _quoted(text: str) -> str:
    match = re.search(r"'([^']+)'", text)
    return match.group(1) if match else text
