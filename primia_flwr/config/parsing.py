"""A composed configuration as its checked dataclass, and one sentence for each mistake in it."""

import re
from typing import TYPE_CHECKING, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from primia_flwr.config import renamed
from primia_flwr.config.checks import nearest
from primia_flwr.errors import ConfigError

if TYPE_CHECKING:
    from hydra.errors import MissingConfigException

_T = TypeVar("_T")


def parse(schema: type[_T], cfg: DictConfig) -> _T:
    """Turn a composed configuration into its checked dataclass.

    Raises
    ------
    ConfigError
        If a key is unknown, has the wrong type, is missing or is out of range.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), cfg)
        return cast(_T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from None


def explain(error: Exception) -> str:
    """Return one sentence for an error of Hydra or OmegaConf: key, value, expectation, remedy."""
    from hydra.errors import HydraException, MissingConfigException

    cause = error.__cause__  # under a tracer OmegaConf's errors are causes of themselves
    if isinstance(error, HydraException) and isinstance(cause, OmegaConfBaseException):
        return explain(cause)
    if isinstance(error, MissingConfigException):
        return _explain_missing_choice(error)
    key = getattr(error, "full_key", None) or ""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is missing; give it as {key}=<value>"
    if isinstance(error, ConfigKeyError | AttributeError):
        unknown = key or _quoted(first)
        return f"unknown key {unknown}; see the keys with --cfg job"
    if isinstance(error, ValidationError):
        return f"{key}: {first}; see the type and the default with --cfg job"
    return " ".join(str(error).split())


def _explain_missing_choice(error: "MissingConfigException") -> str:
    """Name the group, the choice that is not there, those that are, and the nearest."""
    asked = error.missing_cfg_file or _quoted(str(error))
    group, _, choice = asked.rpartition("/")
    if new := renamed.CHOICES.get(f"{group}={choice}"):
        return renamed.sentence(f"{group}={choice}", new)
    options = list(error.options or [])
    if not group or not options:
        return f"no configuration {asked!r} in conf/; see the choices with --help"
    return f"{group}={choice}; expected one of {', '.join(options)}{nearest(choice, options)}"


def _quoted(text: str) -> str:
    match = re.search(r"'([^']+)'", text)
    return match.group(1) if match else text
