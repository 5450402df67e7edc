"""What a bundle is, found out without executing or unpacking any of it.

A bundle (Flower's FAB) is a zip file that the coordinator wrote. `inspect` is the one door: what
it accepts has one reading (`archive`), names that are one file each (`bundle_names`) and texts
that read as they run (`bundle_files`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from primia_flwr.errors import DataError, PolicyRefusal
from primia_flwr.site.bundle.archive import MAX_BUNDLE_BYTES, read_archive, sha256
from primia_flwr.site.bundle.files import (
    PROJECT_FILE,
    check_content_list,
    check_texts,
    read_project,
)
from primia_flwr.site.bundle.names import check_shadows, check_together
from primia_flwr.site.bundle.store import BundleStore
from primia_flwr.storage.printable import hidden, printable, shown

__all__ = [
    "MAX_BUNDLE_BYTES",
    "Bundle",
    "BundleStore",
    "inspect",
    "read_file",
    "read_files",
    "sha256",
]
# They become the name of a folder in Flower's home.
_SAFE_PART = re.compile(r"[A-Za-z0-9_+-]([A-Za-z0-9_.+-]{0,98}[A-Za-z0-9_+-])?")


@dataclass(frozen=True)
class _BundleFile:
    """One file of a bundle: its path and its unpacked size in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Bundle:
    """What a bundle says about itself, and the hash that nobody can forge."""

    sha256: str
    publisher: str
    name: str
    version: str
    files: tuple[_BundleFile, ...]

    @property
    def app_id(self) -> str:
        """`publisher/name`, as Flower calls it."""
        return f"{self.publisher}/{self.name}"

    @property
    def unpacked_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size for file in self.files)


def inspect(content: bytes) -> Bundle:
    """Check a bundle and return what it says of itself.

    Raises
    ------
    PolicyRefusal
        If it is not what `flwr build` makes of an app's texts. The sentence is short and safe to
        print; it may quote a name of the bundle.
    """
    files = read_files(content)
    project = read_project(files)
    described = {
        "publisher": _text_at(project, "tool", "flwr", "app", "publisher"),
        "name": _text_at(project, "project", "name"),
        "version": _text_at(project, "project", "version"),
    }
    for key, value in described.items():
        if not _SAFE_PART.fullmatch(value) or ".." in value:
            raise PolicyRefusal(
                f"bundle's {key}={shown(value)} in {PROJECT_FILE}; expected letters, digits, '-' "
                "or '.'"
            )
    sizes = tuple(_BundleFile(name, len(raw)) for name, raw in files.items())
    return Bundle(sha256(content), **described, files=sizes)


def read_files(content: bytes) -> dict[str, bytes]:
    """Return the files of a bundle by their paths, all of them checked.

    Raises
    ------
    PolicyRefusal
        As `inspect`.
    """
    files = read_archive(content)
    check_together(files)
    check_shadows(files)
    check_texts(files)
    check_content_list(files)
    return files


def read_file(content: bytes, path: str) -> str:
    """Return one file of a bundle as text that is safe to print on a terminal.

    Raises
    ------
    DataError
        If the bundle has no such file.
    """
    files = read_files(content)
    if path not in files:
        raise DataError(
            f"file={printable(path, limit=80)}; expected a file of the bundle, e.g. {PROJECT_FILE}"
        )
    text = files[path].decode("utf-8", errors="backslashreplace")
    return "".join(f"\\u{ord(c):04x}" if hidden(c) and c not in "\n\t" else c for c in text)


def _text_at(project: Mapping[str, Any], *keys: str) -> str:
    """Return the text under a path of keys, or nothing where there is none."""
    value: Any = project
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""
