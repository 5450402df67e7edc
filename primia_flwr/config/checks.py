"""Checks that a configuration section runs on itself, with one form of message.

Each message names the key, the value, what was expected and an example that works:
`data.image_size=7; expected an integer from 16 to 1024, e.g. 64`.
"""

import difflib
import ipaddress
import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date

from primia_flwr.errors import ConfigError
from primia_flwr.storage.printable import printable

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def check_host(key: str, value: str, *, example: str) -> None:
    """Refuse what is neither a name in the DNS nor an IP address at which others reach a server.

    Raises
    ------
    ConfigError
        If it is none, or an address of no machine, such as 0.0.0.0.
    """
    try:
        if not ipaddress.ip_address(value).is_unspecified:
            return
    except ValueError:
        labels = value.split(".")
        is_name = all(map(_LABEL.fullmatch, labels)) and len(value) <= 253
        if is_name and not labels[-1].isdigit():
            return
    raise ConfigError(
        f"{key}={printable(value, limit=80)!r}; expected the name or address at which the others "
        f"reach it, without a port and in ASCII, e.g. {key}={example}"
    )


def check_range(
    key: str,
    value: float,
    low: float,
    high: float = math.inf,
    *,
    example: float,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse a number outside an interval.

    Raises
    ------
    ConfigError
        If `value` is not finite or outside the interval.
    """
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if math.isfinite(value) and above and below:
        return
    raise ConfigError(
        f"{key}={value}; expected a number {_interval(low, high, open_low, open_high)}, "
        f"e.g. {example}"
    )


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Refuse a name that is not in a closed table, and propose the nearest one.

    Raises
    ------
    ConfigError
        If `value` is not one of `choices`.
    """
    if value in choices:
        return
    raise ConfigError(
        f"{key}={printable(str(value), limit=80)}; expected one of {', '.join(choices)}"
        f"{nearest(value, choices)}"
    )


def nearest(value: str, choices: Collection[str]) -> str:
    """Return ` (did you mean X?)` for the choice that looks most like `value`, or nothing."""
    near = difflib.get_close_matches(value, list(choices), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def check_length(key: str, value: Sequence[object], low: int, high: int, *, example: str) -> None:
    """Refuse a list that is too short or too long.

    Raises
    ------
    ConfigError
        If the number of entries is outside [low, high].
    """
    if low <= len(value) <= high:
        return
    expected = f"{low}" if low == high else f"{low} to {high}"
    raise ConfigError(f"{key} has {len(value)} entries; expected {expected}, e.g. {example}")


def check_day(key: str, value: str) -> None:
    """Refuse what is no day as YYYY-MM-DD; nothing is no day and passes.

    Raises
    ------
    ConfigError
        If `value` has another form, or there is no such day.
    """
    if not value:
        return
    try:
        if date.fromisoformat(value).isoformat() == value:
            return
    except ValueError:
        pass
    raise ConfigError(f"{key}={value!r:.40}; expected a day as YYYY-MM-DD, e.g. 2026-11-29")


def check_column(key: str, value: str) -> None:
    """Refuse what cannot be the name of a table's column of its own.

    Raises
    ------
    ConfigError
        If it is empty, longer than 100 characters, or that of another column.
    """
    taken = ("path", "label", "site", "split")
    if not 0 < len(value) <= 100 or value in taken:
        raise ConfigError(
            f"{key}={value!r:.120}; expected the name of the patients' column, e.g. patient"
        )


COLUMNS = ("path", "label", "patient", "site", "split", "mask", "study")


def check_columns(key: str, value: Mapping[str, str]) -> None:
    """Refuse what does not say of a table's columns what they are called.

    Raises
    ------
    ConfigError
        If a key is no column of a manifest, or a name is empty, too long, or stands twice.
    """
    for column, name in value.items():
        check_choice(key, column, COLUMNS)
        if not 0 < len(name) <= 100 or list(value.values()).count(name) > 1:
            raise ConfigError(
                f"{key}.{column}={name!r:.120}; expected the name of a column, another one for "
                "each, e.g. {path: Image Index, label: Finding}"
            )


def check_classes(key: str, names: Sequence[str]) -> None:
    """Refuse what are no names of a model's outputs; nothing passes.

    Raises
    ------
    ConfigError
        If there is one only, or a name stands twice.
    """
    if len(set(names)) != len(names) or len(names) == 1:
        raise ConfigError(
            f"{key}={list(names)}; expected nothing, or at least two different names, e.g. "
            "[ill,well]"
        )


def check_mask_values(key: str, values: Sequence[int], of: str, classes: Sequence[str]) -> None:
    """Refuse what are no values of the classes in a mask; nothing passes.

    `of` is the key that names the classes.

    Raises
    ------
    ConfigError
        If a value is out of range, stands twice, or is of no class.
    """
    for value in values:
        check_range(key, value, 0, 65535, example=255)
    if values and (len(set(values)) != len(values) or len(values) != len(classes)):
        raise ConfigError(
            f"{key}={list(values)} with {of}={list(classes)}; expected different values, one for "
            f"each class, e.g. {of}=[background,lesion] {key}=[0,255]"
        )


def check_pattern(key: str, value: str) -> None:
    """Refuse what is no regular expression with a group `patient`; nothing passes.

    Raises
    ------
    ConfigError
        If it cannot be compiled, or has no such group.
    """
    expected = r"expected a regular expression with a group patient, e.g. (?P<patient>\d+)_"
    try:
        found = "patient" in re.compile(value).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{key}={printable(value, limit=200)} ({error}); {expected}") from None
    if value and not found:
        raise ConfigError(f"{key}={printable(value, limit=200)}; {expected}")


def _interval(low: float, high: float, open_low: bool, open_high: bool) -> str:
    lower = f"above {low}" if open_low else f"of at least {low}"
    if math.isinf(high):
        return lower
    upper = f"below {high}" if open_high else f"at most {high}"
    return f"{lower} and {upper}"
