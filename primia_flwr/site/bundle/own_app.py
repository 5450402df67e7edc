"""The app as the hospital installed it, and whether an admitted bundle is that very app.

A coordinator with the hospital's version sends the files that lie here. Their code is imported
before any message comes, in the server that each message's process is forked from; importing the
same code anew would cost every message a quarter of a second.
"""

import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from primia_flwr.config.root import app_root
from primia_flwr.config.rows import LAYOUTS, MODELS, TASKS

_CODE = ("primia_flwr", "clients", "strategies")
_LIBRARY = Path(__file__).resolve().parents[2]
_imported: dict[str, bytes] = {}  # the digest of every file of the app by its name in a bundle


def import_app() -> None:
    """Import what a site runs of the app, and remember every file of it.

    Where a file is changed meanwhile no bundle will be taken for the app.
    """
    before = _digests()
    with _root_on_path():
        clients = import_module("clients")
        for module in pkgutil.walk_packages(clients.__path__, "clients."):
            import_module(module.name)
        for table in (TASKS, MODELS, LAYOUTS):
            for name in table:
                with suppress(ImportError):  # a row that needs an extra
                    table[name]
    if _digests() == before:
        _imported.update(before)


def is_own(files: Mapping[str, bytes]) -> bool:
    """Say whether a bundle is the app that was imported here, byte for byte.

    Parameters
    ----------
    files : mapping of str to bytes
        The bundle's files by their names. Those beside its folders do not count, as its licence,
        unless they are code; nor does a file that it lacks, since only the hospital's own could
        stand in its place.
    """
    counted = {n: raw for n, raw in files.items() if "/" in n or n.endswith(".py")}
    same = (_imported.get(name) == sha256(raw).digest() for name, raw in counted.items())
    return bool(counted) and all(same)


def forget() -> None:
    """Drop the app's modules from `sys.modules`.

    A bundle that differs brings its own copy, which must not be mixed with the hospital's. The
    gate keeps working: its functions hold on to what they need.
    """
    for name in [n for n in sys.modules if n.split(".")[0] in _CODE]:
        del sys.modules[name]


def _digests() -> dict[str, bytes]:
    root = app_root()
    folders = {part: root / part for part in ("clients", "strategies", "conf")}
    folders["primia_flwr"] = _LIBRARY
    return {
        f"{part}/{path.relative_to(folder).as_posix()}": sha256(path.read_bytes()).digest()
        for part, folder in folders.items()
        for path in folder.rglob("*")
        if path.suffix != ".pyc" and path.is_file()
    }


@contextmanager
def _root_on_path() -> Iterator[None]:
    """Let `clients` be found in an installed wheel, too, and leave the path as it was."""
    root = str(app_root())
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
