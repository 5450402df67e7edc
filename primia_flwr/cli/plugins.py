"""`--plugins FOLDER`: rules, models, tasks and layouts of one's own, for one command."""

import importlib.util
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from primia_flwr.config.rows import add_plugins
from primia_flwr.errors import ConfigError

_GROUP = "primia_flwr.plugins"  # of entry points, each the name of a package that is such a folder
_FLAG = "--plugins"


def with_plugins(arguments: Sequence[str]) -> list[str]:
    """Take in the folders that installed packages and the flag name; return the other words.

    Raises
    ------
    ConfigError
        If a folder is missing or holds nothing that is known.
    """
    folders, rest, words = _installed(), list[str](), list(arguments)
    while words:
        word = words.pop(0)
        if word == _FLAG:
            if not words:
                raise ConfigError(f"{_FLAG} without a folder; expected {_FLAG} FOLDER")
            folders.append(Path(words.pop(0)))
        elif word.startswith(f"{_FLAG}="):
            folders.append(Path(word.partition("=")[2]))
        else:
            rest.append(word)
    for folder in folders:
        add_plugins(folder)
    return rest


def _installed() -> list[Path]:
    """Return the folders of packages with an entry point of the group; none of them is imported."""
    found = []
    for entry in entry_points(group=_GROUP):
        spec = importlib.util.find_spec(entry.value)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"entry point {entry.name} of {_GROUP} names {entry.value}; expected an installed "
                "package"
            )
        found.append(Path(next(iter(spec.submodule_search_locations))))
    return found
