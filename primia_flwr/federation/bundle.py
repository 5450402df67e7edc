"""Stage the Flower App Bundle: the code and the configuration that the sites will be asked to run.

The bundle is built from a staged copy, so the checkout may have any name, and nothing but
the app (`clients/`, `strategies/`, `conf/`, and `primia_flwr/` without encrypted inference, which
no app uses and no site should have to review) travels. Building is
deterministic: the same files give the same SHA-256, which is what a site approves.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

from primia_flwr.config.load import app_root
from primia_flwr.errors import FederationError

APP_NAME = "primia-flwr"
_PARTS = ("primia_flwr", "clients", "strategies", "conf")
# What neither half of the app imports: the less a hospital has to read, the better it reads it.
_NOT_OF_THE_APP = {
    *("_bundle", "attacks", "cli", "crypto", "inference", "service_kits.py", "service_trial.py"),
    *("ledger_statement.py", "privacy_plot.py"),
}
_SUFFIXES = {".py", ".yaml", ".json", ".toml", ".md"}
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
    root, folder = app_root(), destination / APP_NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in _LONE_FILES:
        _copy(root / name, folder / name)
    for part in _PARTS:
        source = _source(root, part)
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if path.suffix in _SUFFIXES and not _NOT_OF_THE_APP & set(inside.parts):
                _copy(path, folder / part / inside)
    try:
        return Bundle(folder, build_fab_from_disk(folder))
    except ValueError as error:
        raise FederationError(f"the app bundle cannot be built from {folder}: {error}") from None


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
