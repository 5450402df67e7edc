"""Stage the Flower App Bundle: the code and the configuration that the sites will be asked to run.

The bundle is built from a staged copy, so the checkout may have any name, and nothing but
the app travels: `clients/`, `strategies/`, `conf/`, and of `primia_flwr/` what the two halves
import, because the less a hospital has to read, the better it reads it. Building is
deterministic: the same files give the same SHA-256, which is what a site approves, whether they
lie in a checkout or in an installed wheel.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

from primia_flwr.config.root import app_root
from primia_flwr.config.rows import LAYOUTS, MODELS, TABLES, TASKS, plugin_folders
from primia_flwr.errors import FederationError
from primia_flwr.flower.imported import imported

_APP_NAME = "primia-flwr"
_CODE = ("primia_flwr", "clients", "strategies")
_PARTS = (*_CODE, "conf")
_SUFFIXES = {".yaml", ".json", ".toml", ".md"}
_AT_HOME = ("_bundle", "commands")  # where a wheel keeps the other parts; keys of the commands
_LONE_FILES = ("pyproject.toml", "LICENSE")


@dataclass(frozen=True)
class Bundle:
    """A staged app and the bundle that Flower builds of it.

    `sha256` is the hash of the bundle's bytes, 64 hexadecimal digits.
    """

    folder: Path
    content: bytes

    @property
    def sha256(self) -> str:
        """Return the hash that a site approves."""
        return hashlib.sha256(self.content).hexdigest()


def stage_bundle(destination: Path) -> Bundle:
    """Copy the app into `destination`/primia-flwr and build its bundle in memory.

    Raises
    ------
    FederationError
        If a part of the app is missing or Flower cannot build the bundle.
    """
    root, folder = app_root(), destination / _APP_NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in _LONE_FILES:
        _copy(root / name, folder / name)
    sources = {part: _source(root, part) for part in _PARTS}
    rows = (  # a choice is imported by its name
        f"{table.folder}/{name}".replace("/", ".")
        for table in (TASKS, MODELS, LAYOUTS)
        for name in table
    )
    starts = {"clients", "strategies", *rows}
    code = imported({part: sources[part] for part in _CODE}, starts=starts)
    for part, source in sources.items():
        for path in sorted(source.rglob("*")):
            if path.relative_to(source).parts[0] in _AT_HOME:
                continue
            if path in code or (part == "conf" and path.suffix in _SUFFIXES):
                _copy(path, folder / part / path.relative_to(source))
    _add_plugins(folder)
    try:
        return Bundle(folder, build_fab_from_disk(folder))
    except ValueError as error:
        raise FederationError(f"the app bundle cannot be built from {folder}: {error}") from None


def _add_plugins(folder: Path) -> None:
    """Put the rows of plugins folders, and their YAML, where the app's own lie."""
    for table in TABLES:
        for file in table.plugins().values():
            _copy(file, folder / table.folder / file.name)
    for root in plugin_folders():
        for file in sorted((root / "conf").rglob("*.yaml")):
            _copy(file, folder / "conf" / file.relative_to(root / "conf"))


def _source(root: Path, part: str) -> Path:
    if part == "primia_flwr":
        return Path(__file__).resolve().parents[1]
    return root / part


def _copy(source: Path, destination: Path) -> None:
    if not source.is_file():
        raise FederationError(
            f"{source} not found; expected the complete app; install primia-flwr again"
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, destination)
