"""The installed software as a wheel, so that a kit brings what its site installs.

An index is never asked for this package by its name: whoever registers the name there would run
code at every hospital. The same files make the same wheel, to the bit.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from primia_flwr.config.root import app_root
from primia_flwr.errors import FederationError

_PACKAGE = "primia-flwr"
_PARTS = ("conf", "clients", "strategies", "pyproject.toml", "LICENSE")  # pyproject.toml has them
_DATE = (2020, 2, 2, 0, 0, 0)
_MODE = 0o100644 << 16
_WHEEL = "Wheel-Version: 1.0\nGenerator: primia\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@cache
def make_wheel() -> tuple[str, bytes]:
    """Return the wheel's name and content.

    Raises
    ------
    FederationError
        If the software is not installed, or not whole.
    """
    found = _installed()
    stem = f"{_PACKAGE.replace('-', '_')}-{found.version}"
    info = f"{stem}.dist-info"
    files = dict(_files())
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (found.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return f"{stem}-py3-none-any.whl", _zipped(files)


def _installed() -> metadata.Distribution:
    try:
        return metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        raise FederationError(
            f"{_PACKAGE} is not installed here; expected an installation of which a wheel can be "
            "made; run pip install -e . in the checkout"
        ) from None


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file that is the same for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _MODE
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    package, root = Path(__file__).resolve().parents[2], app_root()
    for file in _below(package):
        if not file.is_relative_to(package / "_bundle"):
            yield f"primia_flwr/{file.relative_to(package).as_posix()}", file.read_bytes()
    for part in _PARTS:
        for file in _below(root / part):
            yield f"primia_flwr/_bundle/{file.relative_to(root).as_posix()}", file.read_bytes()


def _below(place: Path) -> list[Path]:
    """Return a file, or all files below a folder that are no leftovers, sorted."""
    if place.is_file():
        return [place]
    return [
        file
        for file in sorted(place.rglob("*"))
        if file.is_file()
        and not any(
            part == "__pycache__" or part.startswith(".") for part in file.relative_to(place).parts
        )
    ]


def _record(files: dict[str, bytes], own: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own},,\n"]).encode()
