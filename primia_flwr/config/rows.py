"""Closed tables of choices: one file of a folder is one row, and its name is the choice's name.

The configuration asks a row what it is called, which options it takes and what it needs; nothing
else in the house repeats that. Only names of files that are there can be asked for.
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from primia_flwr.config.root import app_root


@dataclass(frozen=True)
class Table(Mapping[str, Any]):
    """The rows in one folder of the app, by name; a row is imported when it is asked for.

    Parameters
    ----------
    folder : str
        Below the app's root, e.g. `strategies`.
    attribute : str
        The name of the row in each file, e.g. `RULE`.
    others : tuple of str
        Files of the folder that are no rows, without `.py`.
    """

    folder: str
    attribute: str
    others: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        # In an installed wheel the package itself does not lie below the app's root.
        library = self.folder.startswith("primia_flwr/")
        root = Path(__file__).parents[2] if library else app_root()
        return iter(_names(root / self.folder, self.others))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Any:
        if name not in iter(self):
            raise KeyError(name)
        module = importlib.import_module(f"{self._package()}.{name}")
        return getattr(module, self.attribute)

    def _package(self) -> str:
        package = self.folder.replace("/", ".")
        installed = app_root().name == "_bundle" and not package.startswith("primia_flwr")
        return f"primia_flwr._bundle.{package}" if installed else package


@cache
def _names(folder: Path, others: tuple[str, ...]) -> tuple[str, ...]:
    found = (path.stem for path in folder.glob("*.py"))
    return tuple(sorted(n for n in found if not n.startswith("_") and n not in others))


TASKS = Table("primia_flwr/tasks", "TASK", others=("task", "panel", "classes_loss"))
MODELS = Table("primia_flwr/models/architectures", "MODEL")
LAYOUTS = Table("primia_flwr/data/layouts", "LAYOUT", others=("common", "radiograph", "readers"))
