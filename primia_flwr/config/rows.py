"""Closed tables of choices: one file of a folder is one row, and its name is the choice's name.

The configuration asks a row what it is called, which options it takes and what it needs; nothing
else in the house repeats that. Only names of files that are there can be asked for. A folder of
one's own (`primia ... --plugins FOLDER`) may hold further rows, made by `primia new`.
"""

import importlib
import importlib.util
import keyword
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from primia_flwr.config.root import app_root
from primia_flwr.errors import ConfigError

_PLUGINS: list[Path] = []


@dataclass(frozen=True)
class Table(Mapping[str, Any]):
    """The rows in one folder of the app, by name; a row is imported when it is asked for.

    Parameters
    ----------
    folder : str
        Below the app's root, e.g. `strategies`.
    attribute : str
        The name of the row in each file, e.g. `RULE`.
    kind : str
        The folder of a plugins folder that holds such rows, and the group of `conf/` that holds
        their YAML, e.g. `("strategies", "strategy")`.
    others : tuple of str
        Files of the folder that are no rows, without `.py`.
    families : tuple of str
        Folders below it that hold further rows, and nothing else.
    """

    folder: str
    attribute: str
    kind: tuple[str, str]
    others: tuple[str, ...] = ()
    families: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        yield from self._own()
        yield from self.plugins()

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)  # without importing the row

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Any:
        if module := self._own().get(name):
            return getattr(importlib.import_module(f"{self._package()}.{module}"), self.attribute)
        file = self.plugins()[name]
        try:
            return getattr(_loaded(f"primia_plugins.{self.kind[0]}.{name}", file), self.attribute)
        except AttributeError:
            raise ConfigError(
                f"{file} defines no {self.attribute}; expected one; see `primia new --help`"
            ) from None

    def plugins(self) -> dict[str, Path]:
        """Return the files of the rows that plugins folders hold, by name."""
        return {
            name: root / self.kind[0] / f"{name}.py"
            for root in _PLUGINS
            for name in _names(root / self.kind[0], ())
        }

    def _own(self) -> dict[str, str]:
        """Return the app's own rows, each with its module below the folder."""
        # In an installed wheel the package itself does not lie below the app's root.
        library = self.folder.startswith("primia_flwr/")
        folder = (Path(__file__).parents[2] if library else app_root()) / self.folder
        found = {name: name for name in _names(folder, self.others)}
        for family in self.families:
            found |= {name: f"{family}.{name}" for name in _names(folder / family, ())}
        return dict(sorted(found.items()))

    def _package(self) -> str:
        package = self.folder.replace("/", ".")
        installed = app_root().name == "_bundle" and not package.startswith("primia_flwr")
        return f"primia_flwr._bundle.{package}" if installed else package


@cache
def _names(folder: Path, others: tuple[str, ...]) -> tuple[str, ...]:
    found = (path.stem for path in folder.glob("*.py"))
    return tuple(sorted(n for n in found if not n.startswith("_") and n not in others))


def _loaded(name: str, file: Path) -> Any:
    """Import a file under a name, once."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


RULES = Table(
    "strategies",
    "RULE",
    ("strategies", "strategy"),
    ("server_app", "registry"),
    families=("robust", "fedopt"),
)
TASKS = Table(
    "primia_flwr/tasks",
    "TASK",
    ("tasks", "task"),
    ("task", "judge", "parts", "compared", "predictions", "image_csv"),
)
MODELS = Table("primia_flwr/models/architectures", "MODEL", ("models", "model"))
LAYOUTS = Table("primia_flwr/data/layouts", "LAYOUT", ("layouts", "data"))
TABLES = (RULES, TASKS, MODELS, LAYOUTS)


def add_plugins(folder: Path) -> None:
    """Take the rows of a folder into the tables of this process; again, as its files are now.

    Raises
    ------
    ConfigError
        If it is no folder, holds no rows, or a name that is taken or cannot be a module's.
    """
    root = folder.expanduser().resolve()
    kinds = [table.kind[0] for table in TABLES]
    if not any((root / kind).is_dir() for kind in kinds):
        raise ConfigError(
            f"--plugins {folder}; expected a folder with {', '.join(kinds)} in it; make one with "
            "primia new"
        )
    if root in _PLUGINS:
        _forget(root)
    _check_names(root)
    _PLUGINS.append(root)


def _check_names(root: Path) -> None:
    for table in TABLES:
        for name in _names(root / table.kind[0], ()):
            if not name.isidentifier() or keyword.iskeyword(name) or name in iter(table):
                raise ConfigError(
                    f"{root / table.kind[0] / name}.py; expected a name of letters, digits and _ "
                    f"that no other {table.kind[1]} has; rename the file and its YAML"
                )


def _forget(root: Path) -> None:
    """Take out the rows of a folder: in a notebook its files change between two calls."""
    _PLUGINS.remove(root)
    for table in TABLES:
        for name in _names(root / table.kind[0], ()):
            sys.modules.pop(f"primia_plugins.{table.kind[0]}.{name}", None)
    _names.cache_clear()


def plugin_folders() -> tuple[Path, ...]:
    """Return the plugins folders of this process."""
    return tuple(_PLUGINS)
